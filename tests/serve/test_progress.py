from __future__ import annotations

import io

from rich.console import Console

from serve.cli.progress import progress


def test_without_a_terminal_a_line_now_and_then_tells_what_is_left() -> None:
    seconds = iter([0.0, 10.0, 60.0, 61.0])
    console = Console(file=io.StringIO(), force_terminal=False)
    with progress(console, lambda: next(seconds)) as show:
        for done in (0, 2, 4, 8):
            show("fits", done, 8)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "fits: 0 of 8",
        "fits: 4 of 8, 1 min left",
        "fits: 8 of 8, 0 min left",
    ]


def test_on_a_terminal_each_work_has_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress(console) as show:
        show("pairs", 1, 2)
        show("sets", 3, 3)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "pairs" in shown
    assert "1/2" in shown
    assert "3/3" in shown
