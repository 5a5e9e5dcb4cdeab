"""The reference answers are right: each is found again from its question alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

import pytest

from probe.bank.tasks import TASKS
from probe.bank.tasks.elements import elements

#: What the numbers of a question give, by template; read from the question, not from the template's own numbers.
RESULTS: Mapping[str, Callable[[list[int]], int]] = {
    "sum": sum,
    "difference": lambda n: max(n) - min(n),
    "larger": max,
    "nucleus": sum,
    "neutrons": lambda n: n[0] - n[1],
    "flasks": lambda n: n[0] * n[1],
    "list_sum": sum,
    "list_max": max,
    "list_min": min,
    "list_last": lambda n: n[-1],
    "list_even": lambda n: sum(x % 2 == 0 for x in n),
    "there_and_back": lambda n: n[0] + n[1] - n[2],
    "change": lambda n: n[0] - n[1] * n[2],
}


@pytest.mark.parametrize("template", RESULTS)
def test_the_numbers_of_a_math_question_give_its_answer(template: str) -> None:
    rng = random.Random(0)
    for _ in range(100):
        problem = TASKS["math"].templates[template](rng)
        numbers = list(map(int, re.findall(r"\d+", problem.question)))
        assert int(problem.answer) == RESULTS[template](numbers) >= 0, problem


@pytest.mark.parametrize("template", ["pair", "name_pair", "atoms", "all_atoms", "heavier", "proton_sum"])
def test_the_elements_of_a_science_question_give_its_answer(template: str) -> None:
    pytest.importorskip("periodictable", reason="the facts about elements come from it")
    rng = random.Random(0)
    for _ in range(100):
        problem = TASKS["science"].templates[template](rng)
        assert problem.answer == read_science(template, problem.question), problem


def read_science(template: str, question: str) -> str:
    """Answer from the question and the table of elements alone."""
    numbers = {element.name: element.number for element in elements()}
    symbols = {element.name: element.symbol for element in elements()}
    names = {symbol: name for name, symbol in symbols.items()}
    said = [word for word in re.findall("[a-z]+", question) if word in symbols]
    formula = re.findall(r"([A-Z][a-z]?)(\d)", question)
    match template:
        case "pair":
            return " ".join(symbols[name] for name in said)
        case "name_pair":
            return " ".join(names[symbol] for symbol in re.findall(r"\b[A-Z][a-z]?\b", question))
        case "atoms":
            return dict(formula)[symbols[said[0]]]
        case "all_atoms":
            return str(sum(int(count) for _, count in formula))
        case "heavier":
            return max(said, key=lambda name: numbers[name])
        case _:
            return str(sum(numbers[name] for name in said))
