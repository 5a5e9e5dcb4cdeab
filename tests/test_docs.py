"""The README against the code: what it tells people to type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from serve.cli import app

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^```(?:sh|bash|console)\n(?P<block>.*?)^```|`(?P<inline>[^`\n]+)`", re.MULTILINE | re.DOTALL)
MAKE_TARGET = re.compile(r"^(?P<target>[a-z][a-z-]*):", re.MULTILINE)


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def typed_lines(text: str) -> Iterator[list[str]]:
    """Yield what a person would type: the lines of shell blocks, and inline code, as words without comments."""
    for match in CODE.finditer(text):
        for line in (match["block"] or match["inline"]).replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(\S*/)?(mergeprobe|make)\s", line):
                yield shlex.split(line.removeprefix("$ "), comments=True)


def typed(program: str) -> list[list[str]]:
    return [words[1:] for words in typed_lines(readme()) if Path(words[0]).name == program]


def parse(words: list[str]) -> str:
    """Parse a command line as the shell command would, without running it; return the command's name."""
    command: Any = typer.main.get_command(app)
    path = "mergeprobe"
    while hasattr(command, "commands"):
        assert words, f"{path} wants a command"
        assert words[0] in command.commands, f"{path} has no command {words[0]}"
        path, command, words = f"{path} {words[0]}", command.commands[words[0]], words[1:]
    command.make_context(path, list(words))
    return path


def test_every_command_line_of_the_readme_parses() -> None:
    lines = typed("mergeprobe")
    assert len(lines) > 5
    wrong = {}
    for words in lines:
        try:
            parse(words)
        except Exception as error:  # click's, or an assertion
            wrong[" ".join(words)] = repr(error)
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("serve --demoo", "No such option"),
        ("lisst", "no command lisst"),
        ("register only-a-name", "Missing"),
        ("bank", "wants a command"),
        ("plans --limit many", "valid int"),
    ],
)
def test_a_line_that_is_wrong_would_be_found(line: str, told: str) -> None:
    with pytest.raises(Exception, match=told):
        parse(line.split())


def test_every_make_target_of_the_readme_exists() -> None:
    targets = {match["target"] for match in MAKE_TARGET.finditer((ROOT / "Makefile").read_text())}
    named = {words[0] for words in typed("make")}
    assert {"serve", "test"} <= named <= targets


def test_every_file_that_the_readme_names_exists() -> None:
    named = {match["inline"] for match in CODE.finditer(readme()) if match["inline"]}
    files = {name for name in named if re.fullmatch(r"(probe|router|serve|deploy|tests)/[\w./-]*", name)}
    assert len(files) > 10
    assert sorted(name for name in files if not (ROOT / name).exists()) == []


def test_every_figure_of_the_readme_exists_and_is_made_by_the_makefile() -> None:
    figures = [Path(name) for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme())]
    assert figures
    assert [str(figure) for figure in figures if not (ROOT / figure).is_file()] == []
    makefile = (ROOT / "Makefile").read_text()
    assert [figure.name for figure in figures if figure.name not in makefile] == []


def test_every_module_that_the_makefile_runs_exists() -> None:
    modules = re.findall(r"python -m ([\w.]+)", (ROOT / "Makefile").read_text())
    missing = [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()]
    assert missing == []
