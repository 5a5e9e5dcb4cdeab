"""Rows are read as they were written, or refused with file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe import rows as module
from probe.rows import Row, RowError, first_rows, read_rows, split_rows, write_rows

FORCED = Row("<|im_start|>user\nhé?<|im_end|>\n", "yes", "forced")
GENERATED = Row("p", "a", "generated", {"kind": "refusal", "expected": True}, 7)


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [FORCED, GENERATED])
    assert read_rows(tmp_path / "rows.jsonl") == (FORCED, GENERATED)


def test_blank_lines_are_skipped_and_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n")
    assert read_rows(path) == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"answer": None}, "answer"),
        ({"scorer": "vibes"}, "scorer"),
        ({"scorer": ["forced"]}, "scorer"),
        ({"check": {"expected": True}}, "check"),
        ({"check": {"kind": "refusal"}}, "check"),
        ({"scorer": "generated"}, "check"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(tmp_path: Path, change: dict[str, object], field: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"prompt": "p", "answer": "a", "scorer": "forced"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(RowError, match=rf"rows\.jsonl line 2: .*'{field}'"):
        read_rows(path)


@pytest.mark.parametrize("line", ["{", "[]", "3"])
def test_a_line_that_is_no_object_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(RowError, match="line 1"):
        read_rows(path)


def test_a_missing_file_and_bytes_that_are_no_text_are_row_errors(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RowError, match="cannot be read"):
        read_rows(tmp_path / "binary.jsonl")


def test_too_many_rows_are_refused_and_just_enough_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [FORCED] * 3)
    assert len(read_rows(path, max_rows=3)) == 3
    with pytest.raises(RowError, match="line 3: more than 2 rows"):
        read_rows(path, max_rows=2)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_gate_and_report_rows_are_disjoint_and_complete(count: int) -> None:
    rows = tuple(Row(str(index), "a", "forced") for index in range(count))
    gate, report = split_rows(rows)
    assert [row.prompt for row in gate] == [str(index) for index in range(0, count, 2)]
    assert [row.prompt for row in report] == [str(index) for index in range(1, count, 2)]


def test_a_prompt_that_stands_twice_is_in_one_half_only() -> None:
    rows = [Row(prompt, str(number), "forced") for number, prompt in enumerate(("a", "a", "b", "a", "c", "b", "d"))]
    gate, report = split_rows(rows)
    assert [row.answer for row in gate] == ["0", "4"]
    assert [row.answer for row in report] == ["2", "6"]


def test_the_first_rows_are_a_file_of_their_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "all.jsonl", [GENERATED, FORCED, FORCED])
    first = first_rows(tmp_path / "all.jsonl", 2, tmp_path / "new" / "folder")
    assert read_rows(first) == (GENERATED, FORCED)
    assert list(first.parent.iterdir()) == [first]
    assert read_rows(first_rows(tmp_path / "all.jsonl", 9, first.parent)) == (GENERATED, FORCED, FORCED)


def test_the_file_of_first_rows_is_named_by_what_is_in_it_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    write_rows(path, [FORCED, GENERATED])
    first = first_rows(path, 1, tmp_path)
    written = first.stat().st_mtime_ns
    write_rows(path, [FORCED, FORCED])
    assert first_rows(path, 1, tmp_path) == first
    assert first.stat().st_mtime_ns == written
    write_rows(path, [GENERATED])
    assert read_rows(first_rows(path, 1, tmp_path)) == (GENERATED,)
    assert read_rows(first) == (FORCED,)


def test_first_rows_that_were_not_written_whole_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "all.jsonl", [FORCED, GENERATED])

    def cut_power(path: Path, rows: tuple[Row, ...]) -> None:
        path.write_text(rows[0].prompt)
        raise OSError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(module, "write_rows", cut_power)
        with pytest.raises(OSError, match="power cut"):
            first_rows(tmp_path / "all.jsonl", 2, tmp_path)
    assert read_rows(first_rows(tmp_path / "all.jsonl", 2, tmp_path)) == (FORCED, GENERATED)


def test_a_file_without_readable_rows_has_no_first_ones(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="cannot be read"):
        first_rows(tmp_path / "absent.jsonl", 1, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
