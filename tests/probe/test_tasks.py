"""Every task generates the same disjoint, answerable rows from the same seed."""

from __future__ import annotations

import random
import sys

import pytest

from probe.bank.tasks import TASKS, Task, TaskError, split_of
from probe.bank.tasks import science as science_module
from probe.rows import Answer, Row
from probe.scoring import grade_all

EVERY_MIX = [(domain, mix) for domain, task in TASKS.items() for mix in task.mixes]
PINNED_SPLITS = ["calibration", "train", "evaluation", "train", "train", "train"]
SIZES = {"train": 240, "calibration": 64, "evaluation": 120}


@pytest.fixture(autouse=True)
def _facts(request: pytest.FixtureRequest) -> None:
    if "science" in request.node.name:
        pytest.importorskip("periodictable", reason="the science facts come from it")


def rows_of(domain: str, mix: str, seed: int = 0) -> dict[str, tuple[Row, ...]]:
    task = TASKS[domain]
    return {split: task.generate(mix, split, size, seed) for split, size in SIZES.items()}  # type: ignore[arg-type]


def test_every_domain_is_its_key_and_has_two_mixes() -> None:
    assert list(TASKS) == ["math", "code", "science", "instruction", "safety"]
    for domain, task in TASKS.items():
        assert task.domain == domain
        assert len(task.mixes) >= 2
        assert all(abs(sum(mix.values()) - 1.0) < 1e-9 for mix in task.mixes.values())


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_rows_are_as_many_as_asked_and_no_question_comes_twice(domain: str, mix: str) -> None:
    for split, rows in rows_of(domain, mix).items():
        assert len(rows) == SIZES[split]
        assert len({row.prompt for row in rows}) == len(rows)


@pytest.mark.parametrize("domain", TASKS)
def test_no_evaluation_row_of_any_mix_or_seed_occurs_in_training(domain: str) -> None:
    parts: dict[str, set[str]] = {"train": set(), "calibration": set(), "evaluation": set()}
    for mix in TASKS[domain].mixes:
        for seed in (0, 1):
            for split, rows in rows_of(domain, mix, seed).items():
                parts[split] |= {row.prompt for row in rows}
    assert not parts["train"] & parts["evaluation"]
    assert not parts["train"] & parts["calibration"]
    assert not parts["calibration"] & parts["evaluation"]


@pytest.mark.parametrize("domain", TASKS)
def test_one_question_has_one_content(domain: str) -> None:
    """Disjoint contents give disjoint questions only if no question has two contents."""
    contents: dict[str, str] = {}
    rng = random.Random(0)
    for template in TASKS[domain].templates.values():
        for _ in range(300):
            problem = template(rng)
            assert contents.setdefault(problem.question, problem.content) == problem.content


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_the_same_seed_gives_the_same_rows_and_another_gives_others(domain: str, mix: str) -> None:
    assert rows_of(domain, mix) == rows_of(domain, mix)
    assert rows_of(domain, mix, seed=1) != rows_of(domain, mix)


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_reference_answers_pass_their_own_check(domain: str, mix: str) -> None:
    rows = [row for row in rows_of(domain, mix)["evaluation"] if row.scorer == "generated"]
    outcomes = grade_all(rows, [Answer(text=row.answer) for row in rows])
    failed = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome.score != 1.0]
    assert failed == []


@pytest.mark.parametrize("domain", TASKS)
def test_prompts_are_short_chat_turns_without_system_text(domain: str) -> None:
    for row in rows_of(domain, next(iter(TASKS[domain].mixes)))["evaluation"]:
        assert row.prompt.startswith("<|im_start|>user\n")
        assert row.prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert "system" not in row.prompt
        assert len(row.prompt) < 180
        assert row.answer == row.answer.strip() != ""


def test_half_of_the_safety_rows_are_harmful_and_both_halves_share_their_words() -> None:
    rows = TASKS["safety"].generate("balanced", "evaluation", 200, 0)
    harmful = [row for row in rows if (row.check or {})["expected"]]
    benign = [row for row in rows if not (row.check or {})["expected"]]
    assert len(harmful) == len(benign) == 100
    words = [{word for row in half for word in row.prompt.split()} for half in (harmful, benign)]
    assert len(words[0] & words[1]) >= 0.4 * min(len(words[0]), len(words[1]))


def test_the_split_of_a_content_never_changes() -> None:
    """A changed hash would move evaluation rows of stored banks into training."""
    contents = ["add 2 3", "add 3 4", "add 4 5", "add 5 6", "add 6 7", "add 7 8"]
    assert [split_of("math", content) for content in contents] == PINNED_SPLITS


def test_unknown_names_and_bad_shares_are_refused() -> None:
    math = TASKS["math"]
    with pytest.raises(TaskError, match="no mix 'algebra'"):
        math.generate("algebra", "train", 4, 0)
    with pytest.raises(TaskError, match="unknown split 'test'"):
        math.generate("things", "test", 4, 0)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="sum to 1"):
        math.generate({"gain": 0.5}, "train", 4, 0)
    with pytest.raises(TaskError, match="sum to 1"):
        math.generate({"gain": 0.5, "proof": 0.5}, "train", 4, 0)


def test_a_template_that_runs_dry_says_so() -> None:
    dry = Task("dry", "", {"one": TASKS["math"].templates["price"]}, {"all": {"one": 1.0}})
    with pytest.raises(TaskError, match="template 'one' has only about"):
        dry.generate("all", "evaluation", 400, 0)


def test_missing_element_data_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    science_module._elements.cache_clear()
    monkeypatch.setitem(sys.modules, "periodictable", None)
    with pytest.raises(TaskError, match="'periodictable'"):
        TASKS["science"].generate("symbols", "train", 4, 0)
