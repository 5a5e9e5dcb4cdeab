"""Domain science: facts about the chemical elements, scored by forcing.

The facts come from the data package `periodictable`, which only generating needs.
"""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probe.bank.tasks.problem import Problem, Task, TaskError, Template

# Heavier elements are so rare in text that the base model knows next to nothing to build on.
_LAST_NUMBER = 60


@dataclass(frozen=True, slots=True)
class _Element:
    number: int
    symbol: str
    name: str


@dataclass(frozen=True, slots=True)
class _Fact:
    """A property to ask for: phrasings with the fields of `_Element`, and the answer."""

    phrasings: tuple[str, ...]
    answer: Callable[[_Element], str]


_FACTS: Mapping[str, _Fact] = {
    "symbol": _Fact(
        (
            "What is the chemical symbol of {name}?",
            "Which symbol does {name} have?",
            "How is {name} written in the periodic table?",
            "Give the symbol for the element {name}.",
            "What do chemists write for {name}?",
            "{name}: chemical symbol?",
            "Abbreviate the element {name}.",
            "Short form of {name} in chemistry?",
        ),
        lambda element: element.symbol,
    ),
    "name": _Fact(
        (
            "Which element has the symbol {symbol}?",
            "What does {symbol} stand for in chemistry?",
            "Name the element with the symbol {symbol}.",
            "Which element is written {symbol}?",
            "What is the element {symbol} called?",
            "{symbol}: which element?",
            "What does the chemical symbol {symbol} mean?",
            "Spell out the element {symbol}.",
        ),
        lambda element: element.name,
    ),
    "number": _Fact(
        (
            "What is the atomic number of {name}?",
            "How many protons does {name} have?",
            "Which atomic number does {name} have?",
            "Give the number of protons in {name}.",
            "Where in the periodic table is {name}?",
            "{name}: atomic number?",
            "State the atomic number of {name}.",
            "Number of protons in {name}?",
        ),
        lambda element: str(element.number),
    ),
    "numbered": _Fact(
        (
            "Which element has the atomic number {number}?",
            "Which element has {number} protons?",
            "Name the element with the atomic number {number}.",
            "What is element {number} called?",
            "Which element is number {number} in the periodic table?",
            "Atomic number {number}: which element?",
            "What has {number} protons?",
            "Name element {number}.",
        ),
        lambda element: element.name,
    ),
}


@functools.cache
def _elements() -> tuple[_Element, ...]:
    try:
        table = importlib.import_module("periodictable").elements
    except ImportError as error:
        raise TaskError(
            "the science task reads its facts from the package 'periodictable', which is not "
            "installed; install it to generate rows (scoring stored rows does not need it)"
        ) from error
    return tuple(
        _Element(element.number, element.symbol, element.name)
        for element in table
        if 1 <= element.number <= _LAST_NUMBER
    )


def _template(name: str) -> Template:
    def draw(rng: random.Random) -> Problem:
        fact = _FACTS[name]
        element = rng.choice(_elements())
        phrasing = rng.randrange(len(fact.phrasings))
        question = fact.phrasings[phrasing].format(name=element.name, symbol=element.symbol, number=element.number)
        # A fact that training never shows cannot be learnt, so the content is a fact together
        # with a phrasing: evaluation asks in ways that training did not.
        content = f"{name} {element.number} {phrasing}"
        return Problem(content, question[0].upper() + question[1:], fact.answer(element))

    return draw


SCIENCE = Task(
    domain="science",
    description="Symbols, names and atomic numbers of the elements up to 60; exact match.",
    templates={name: _template(name) for name in _FACTS},
    mixes={
        "symbols": {"symbol": 0.4, "name": 0.4, "number": 0.2},
        "elements": {"symbol": 0.35, "name": 0.35, "number": 0.15, "numbered": 0.15},
        "numbers": {"number": 0.5, "numbered": 0.5},
    },
)
