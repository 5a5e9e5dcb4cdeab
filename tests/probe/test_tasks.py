"""Every task generates the same disjoint, answerable rows from the same seed."""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from probe.bank.tasks import TASKS, Mix, Problem, Split, Task, TaskError, question_of, split_of
from probe.bank.tasks.elements import elements
from probe.bank.tasks.problem import Template
from probe.bank.tasks.safety import CONSENT, REFUSAL
from probe.rows import Answer, Row
from probe.scoring import grade_all

EVERY_MIX = [(domain, mix) for domain, task in TASKS.items() for mix in task.mixes]
PINNED_SPLITS = ["calibration", "train", "evaluation", "train", "train", "train"]
SIZES: Mapping[Split, int] = {"train": 240, "calibration": 64, "evaluation": 120}
#: Rows that a bank of real size takes from a mix; one that has fewer says how many.
FULL_SIZES: Mapping[Split, int] = {"train": 1000, "calibration": 128, "evaluation": 400}
#: Mix -> the domain whose words it borrows.
BORROWED = {
    ("math", "lists"): "code",
    ("math", "atoms"): "science",
    ("code", "stories"): "math",
    ("science", "arithmetic"): "math",
    ("instruction", "numbers"): "math",
    ("instruction", "symbols"): "science",
    ("safety", "chemistry"): "science",
    ("safety", "programs"): "code",
}
#: What no check takes for a right answer of the built-in tasks.
WRONG = {"constraints": "Zebra, zebra", "python": "None"}

DRY = Task(
    "dry",
    "",
    {"one": TASKS["math"].templates["price"], "two": TASKS["math"].templates["gain"]},
    {"all": Mix({"one": 1.0}), "half": Mix({"one": 0.5, "two": 0.5})},
)


@pytest.fixture(autouse=True)
def _facts(request: pytest.FixtureRequest) -> None:
    if re.search("science|instruction", request.node.name):
        pytest.importorskip("periodictable", reason="the facts about elements come from it")


@cache
def rows_of(domain: str, mix: str, seed: int = 0) -> Mapping[Split, tuple[Row, ...]]:
    return {split: TASKS[domain].generate(mix, split, size, seed) for split, size in SIZES.items()}


def scores(rows: list[Row], texts: list[str]) -> list[float]:
    """Grade `texts` as an engine would give them: a forced answer is the reference's tokens, or it is not."""
    answers = [
        Answer(is_argmax=text == row.answer) if row.scorer == "forced" else Answer(text=text)
        for row, text in zip(rows, texts, strict=True)
    ]
    return [outcome.score for outcome in grade_all(rows, answers)]


def wrong_answer(row: Row) -> str:
    kind = (row.check or {}).get("kind", "forced")
    if kind == "refusal":
        return CONSENT if row.answer == REFUSAL else REFUSAL
    return WRONG.get(kind, f"{row.answer}0")


def test_every_domain_is_its_key_and_has_mixes_of_all_difficulties() -> None:
    assert list(TASKS) == ["math", "code", "science", "instruction", "safety"]
    for domain, task in TASKS.items():
        assert task.domain == domain
        assert {mix.difficulty for mix in task.mixes.values()} == {"easy", "medium", "hard"}
        assert {name for mix in task.mixes.values() for name in mix.shares} == set(task.templates)


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_a_mix_has_the_rows_of_a_bank_or_says_how_many_it_has(domain: str, mix: str) -> None:
    task = TASKS[domain]
    available = task.available(mix, max(FULL_SIZES.values()))
    few = {split: available[split] for split, size in FULL_SIZES.items() if available[split] < size}
    said = re.findall(r"(\d+) (train|evaluation)", task.mixes[mix].description)
    assert {split: int(count) for count, split in said} == few


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_rows_are_as_many_as_asked_and_no_question_comes_twice(domain: str, mix: str) -> None:
    for split, rows in rows_of(domain, mix).items():
        assert len(rows) == SIZES[split]
        assert len({row.prompt for row in rows}) == len(rows)


@pytest.mark.parametrize("domain", TASKS)
def test_no_evaluation_content_of_any_mix_or_seed_occurs_in_training(domain: str) -> None:
    """All mixes at once: any pair of them is disjoint."""
    contents: dict[str, str] = {}

    def recorded(template: Template) -> Template:
        def draw(rng: random.Random) -> Problem:
            problem = template(rng)
            contents[problem.question] = problem.content
            return problem

        return draw

    task = TASKS[domain]
    task = replace(task, templates={name: recorded(template) for name, template in task.templates.items()})
    parts: dict[Split, set[str]] = {split: set() for split in SIZES}
    for mix, seed, split in itertools.product(task.mixes, (0, 1), SIZES):
        rows = task.generate(mix, split, SIZES[split], seed)
        parts[split] |= {contents[question_of(row.prompt)] for row in rows}
    assert not parts["train"] & parts["evaluation"]
    assert not parts["train"] & parts["calibration"]
    assert not parts["calibration"] & parts["evaluation"]


def test_a_one_step_sum_is_one_content_in_every_story() -> None:
    """Read from the questions alone: two numbers and their result are never trained and asked."""
    seen: dict[Split, set[tuple[int, ...]]] = {split: set() for split in SIZES}
    for mix in TASKS["math"].mixes:
        for split, rows in rows_of("math", mix).items():
            for row in rows:
                numbers = sorted(map(int, re.findall(r"\d+", question_of(row.prompt))))
                # 2 + 2 and 2 * 2 are different problems with the same numbers and result.
                if len(numbers) == 2 and numbers != [2, 2]:
                    seen[split].add((*numbers, int(row.answer)))
    assert min(map(len, seen.values())) > 100
    assert not seen["train"] & (seen["evaluation"] | seen["calibration"])


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
    again = TASKS[domain].generate(mix, "evaluation", SIZES["evaluation"], 0)
    assert rows_of(domain, mix)["evaluation"] == again
    assert rows_of(domain, mix, seed=1)["evaluation"] != again


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_reference_answers_score_one_and_wrong_answers_nothing(domain: str, mix: str) -> None:
    rows = list(rows_of(domain, mix)["evaluation"])
    assert set(scores(rows, [row.answer for row in rows])) == {1.0}
    assert set(scores(rows, [wrong_answer(row) for row in rows])) == {0.0}


@pytest.mark.parametrize(("domain", "mix"), EVERY_MIX)
def test_prompts_are_short_chat_turns_without_system_text(domain: str, mix: str) -> None:
    for row in rows_of(domain, mix)["evaluation"]:
        assert row.prompt.startswith("<|im_start|>user\n")
        assert row.prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert "<|im" not in question_of(row.prompt)
        assert "system" not in row.prompt
        assert len(row.prompt) < 180
        assert row.answer == row.answer.strip() != ""


@pytest.mark.parametrize(("pair", "other"), BORROWED.items(), ids=str)
def test_a_mix_borrows_words_that_its_own_domain_does_not_use(pair: tuple[str, str], other: str) -> None:
    def words(domain: str, mix: str) -> Counter[str]:
        rows = rows_of(domain, mix)["train"]
        return Counter(word for row in rows for word in re.findall("[a-z]{2,}", question_of(row.prompt).lower()))

    domain, mix = pair
    own = set().union(*(words(domain, name) for name in TASKS[domain].mixes if (domain, name) not in BORROWED))
    foreign = set().union(*(words(other, name) for name in TASKS[other].mixes if (other, name) not in BORROWED))
    borrowed = [word for word in words(domain, mix) if word in foreign - own]
    assert len(borrowed) >= 2, (sorted(words(domain, mix)), borrowed)


def test_half_of_the_safety_rows_are_harmful_and_both_halves_share_their_words() -> None:
    rows = TASKS["safety"].generate("balanced", "evaluation", 200, 0)
    harmful = [row for row in rows if (row.check or {})["expected"]]
    benign = [row for row in rows if not (row.check or {})["expected"]]
    assert len(harmful) == len(benign) == 100
    words = [{word for row in half for word in row.prompt.split()} for half in (harmful, benign)]
    assert len(words[0] & words[1]) >= 0.4 * min(len(words[0]), len(words[1]))


@pytest.mark.parametrize("mix", TASKS["safety"].mixes)
def test_refusing_everything_is_worth_as_little_as_refusing_nothing(mix: str) -> None:
    rows = list(TASKS["safety"].generate(mix, "evaluation", 100, 0))
    for text in (REFUSAL, CONSENT):
        assert sum(scores(rows, [text] * len(rows))) == 50
    careful = [REFUSAL if number % 10 == 0 else row.answer for number, row in enumerate(rows)]
    assert 90 <= sum(scores(rows, careful)) < 100


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
    with pytest.raises(TaskError, match="template 'one' has only about"):
        DRY.generate("all", "evaluation", 400, 0)


def test_the_rows_that_are_counted_can_be_generated_and_no_more() -> None:
    available = DRY.available("all", 2000)
    for split, count in available.items():
        assert 0 < count < 400
        assert len(DRY.generate("all", split, count, 0)) == count
        with pytest.raises(TaskError, match="has only about"):
            DRY.generate("all", split, count + 1, 0)
    assert DRY.available("all", 40) == dict.fromkeys(SIZES, 40)
    assert DRY.available("half", 2000)["train"] == 2 * available["train"]


def test_missing_element_data_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    elements.cache_clear()
    monkeypatch.setitem(sys.modules, "periodictable", None)
    with pytest.raises(TaskError, match="'periodictable'"):
        TASKS["science"].generate("symbols", "train", 4, 0)
