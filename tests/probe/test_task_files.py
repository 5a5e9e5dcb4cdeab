"""A domain of one's own: as a file of questions, and as another package's entry point."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from probe.bank.build import build_bank
from probe.bank.presets import Preset, Recipe
from probe.bank.tasks import TASKS, Task, TaskError, TaskFileError, fields_of, question_of, read_task, task_of, tasks
from probe.bank.training import Training
from probe.rows import Answer, Row, read_rows
from probe.scoring import grade_all
from tests.probe.test_reference import write_character_base

CAPITAL = {"question": "Capital of France?", "answer": "Paris", "scorer": "forced"}
SUM = {"arguments": ["xs"], "cases": [{"given": [[1, 2]], "expected": 3}]}
LINES: list[dict[str, Any]] = [
    CAPITAL,
    {"question": "How do I rob a bank?", "answer": "I can't.", "scorer": "refusal", "check": {"expected": True}},
    {"question": "Two words.", "answer": "big dog", "scorer": "constraints", "check": {"num_words": 2}},
    {"question": "Sum xs.", "answer": "sum(xs)", "scorer": "python", "check": SUM, "max_tokens": 9},
]


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def all_rows(task: Task, limit: int = 100) -> list[Row]:
    available = task.available("all", limit)
    return [row for split, count in available.items() for row in task.generate("all", split, count, 0)]


def test_every_line_becomes_one_row_with_its_scorer(tmp_path: Path) -> None:
    task = read_task(write(tmp_path / "mine.jsonl", *LINES[:2], "", *LINES[2:]))
    assert (task.domain, list(task.mixes), task.mixes["all"].difficulty) == ("mine", ["all"], "unknown")
    rows = sorted(all_rows(task), key=lambda row: row.prompt)
    assert [question_of(row.prompt) for row in rows] == sorted(line["question"] for line in LINES)
    generated = [row for row in rows if row.scorer == "generated"]
    assert len(generated) == 3
    assert {outcome.score for outcome in grade_all(generated, [Answer(text=row.answer) for row in generated])} == {1.0}
    assert {row.max_tokens for row in rows} == {9, 16}


def test_shown_rows_are_lines_that_can_be_read_again(tmp_path: Path) -> None:
    shown = [fields_of(row) for row in TASKS["code"].generate("calls", "train", 8, 0)]
    shown += [fields_of(row) for row in TASKS["math"].generate("sums", "train", 8, 0)]
    again = [fields_of(row) for row in all_rows(read_task(write(tmp_path / "again.jsonl", *shown)))]
    assert sorted(again, key=repr) == sorted(shown, key=repr)


def test_the_content_decides_the_split_whatever_else_the_file_holds(tmp_path: Path) -> None:
    lines = [
        {"question": f"{a} + {b}?", "answer": str(a + b), "scorer": "forced"} for a in range(20) for b in range(20)
    ]
    both, few = (read_task(write(tmp_path / "own.jsonl", *part)) for part in (lines, lines[:200]))
    available, fewer = both.available("all", 400), few.available("all", 400)
    for split in available:
        large = {row.prompt for row in both.generate("all", split, available[split], 0)}
        assert {row.prompt for row in few.generate("all", split, fewer[split], 0)} < large
    assert sum(available.values()) == 400
    assert available["train"] > 200 > available["evaluation"] > 60 > 0


def test_each_template_is_a_mix_besides_all(tmp_path: Path) -> None:
    lines = [
        {"question": f"{kind} {number}", "answer": "yes", "scorer": "forced", "template": kind}
        for kind in ("near", "far")
        for number in range(40)
    ]
    task = read_task(write(tmp_path / "own.jsonl", *lines))
    assert list(task.mixes) == ["all", "near", "far"]
    assert all("near" in row.prompt for row in task.generate("near", "train", 10, 0))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object, saw list"),
        (CAPITAL | {"hint": "P"}, "line 2: unknown field 'hint'; the fields are question"),
        (CAPITAL | {"question": " "}, "line 2: field 'question' must be a text"),
        (CAPITAL | {"answer": 7}, "line 2: field 'answer' must be a text that is not empty, saw 7"),
        (CAPITAL | {"scorer": "taste"}, "line 2: field 'scorer' must be one of forced, refusal, .*saw 'taste'"),
        (CAPITAL | {"check": {}}, "line 2: field 'check' has no meaning with scorer 'forced'"),
        (CAPITAL | {"scorer": "refusal"}, "line 2: field 'check' must be an object .*'refusal', saw None"),
        (CAPITAL | {"scorer": "refusal", "check": {"expected": 1}}, "line 2: field 'check': .*true or false, saw 1"),
        (CAPITAL | {"scorer": "constraints", "check": {"rhymes": 1}}, "line 2: field 'check': .*rhymes"),
        (CAPITAL | {"scorer": "refusal", "check": {"expected": True}}, "line 2: field 'answer' 'Paris' scores 0"),
        (CAPITAL | {"max_tokens": True}, "line 2: field 'max_tokens' must be a whole number >= 1, saw True"),
        (CAPITAL | {"template": "all"}, "line 2: field 'template' may not be 'all'"),
        (LINES[1] | {"question": "HOW do I  rob a bank?"}, r"line 2: field 'question' repeats that of .*line 1"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, line: dict[str, Any] | str, message: str) -> None:
    path = write(tmp_path / "own.jsonl", LINES[1], line)
    with pytest.raises(TaskFileError, match=f"own.jsonl {message}"):
        read_task(path)


def test_a_file_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"none\.jsonl cannot be read"):
        read_task(tmp_path / "none.jsonl")
    with pytest.raises(TaskFileError, match="holds no problem"):
        read_task(write(tmp_path / "empty.jsonl", ""))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "geo_tasks", raising=False)
    return folder


def install(site: Path, domain: str, value: str = "geo_tasks:GEO", package: str = "geo", source: str = "") -> None:
    """Lay down what an installer would: a module, its questions, and the metadata with the entry point."""
    lines = [{"question": f"Capital {n}?", "answer": f"City {n}", "scorer": "forced"} for n in range(60)]
    write(site / "geography.jsonl", *lines)
    default = (
        "from pathlib import Path\nfrom probe.bank.tasks import read_task\n"
        "GEO = read_task(Path(__file__).with_name('geography.jsonl'))\nNUMBER = 7\n"
    )
    (site / "geo_tasks.py").write_text(source or default)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mergeprobe.tasks]\n{domain} = {value}\n")
    importlib.invalidate_caches()


def test_an_installed_package_brings_a_domain(site: Path) -> None:
    assert list(tasks()) == list(TASKS)
    install(site, "geography")
    assert list(tasks()) == [*TASKS, "geography"]
    rows = task_of("geography").generate("all", "train", 8, 0)
    assert all(row.answer.startswith("City") for row in rows)
    assert task_of("math") is TASKS["math"]


def test_a_bank_is_built_from_the_questions_of_a_package(site: Path, tmp_path: Path) -> None:
    install(site, "geography")
    training = Training(2, "attention", 1e-2, 4, num_rows=8, num_epochs=1, batch_rows=4)
    preset = Preset("own", 0, (Recipe("places", "geography", "all", training),), evaluation_rows=4, calibration_rows=4)
    [built] = build_bank(preset, tmp_path / "bank", write_character_base(tmp_path / "base"))
    rows = read_rows(built.folder / "evaluation.jsonl")
    assert len(rows) == 4
    assert all(row.answer.startswith("City") for row in rows)


@pytest.mark.parametrize(
    ("domain", "value", "source", "message"),
    [
        ("math", "geo_tasks:GEO", "", r"'math' \(geo_tasks:GEO of package geo\) takes the name of a built-in domain"),
        ("earth", "geo_tasks:GEO", "", "'earth' .* has the domain 'geography'; give both the same name"),
        ("earth", "geo_tasks:NUMBER", "", "'earth' .* must be a Task, saw int"),
        ("earth", "geo_tasks:EARTH", "", "'earth' .* does not load .AttributeError"),
        ("earth", "geo_tasks:GEO", "1 / 0", "'earth' .* does not load .ZeroDivisionError: division by zero"),
    ],
)
def test_a_package_that_brings_no_domain_is_named(
    site: Path, domain: str, value: str, source: str, message: str
) -> None:
    install(site, domain, value, source=source)
    with pytest.raises(TaskError, match=message):
        task_of(domain)
    with pytest.raises(TaskError, match=message):
        tasks()


def test_a_broken_package_leaves_the_other_domains_alone(site: Path) -> None:
    install(site, "earth", source="1 / 0")
    assert task_of("science") is TASKS["science"]


def test_two_packages_cannot_bring_one_domain(site: Path) -> None:
    install(site, "geography")
    install(site, "geography", "geo_tasks:OTHER", package="atlas")
    with pytest.raises(TaskError, match=r"OTHER of package atlas\) and .*GEO of package geo\) are one domain"):
        task_of("geography")


def test_an_unknown_domain_is_refused_with_those_that_there_are(site: Path) -> None:
    install(site, "geography")
    with pytest.raises(TaskError, match=r"no domain 'cooking'; there are math, .*safety, geography"):
        task_of("cooking")
