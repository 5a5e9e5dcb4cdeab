"""Domain science: facts about the chemical elements, scored by forcing."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probe.bank.tasks.elements import Element, elements
from probe.bank.tasks.problem import Mix, Problem, Task, Template


@dataclass(frozen=True, slots=True)
class _Fact:
    """A property to ask for: phrasings with the fields of `Element`, and the answer."""

    phrasings: tuple[str, ...]
    answer: Callable[[Element], str]


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


_PAIR_ASK = (
    "Symbols of {a} and {b}?",
    "Write the symbols of {a} and {b}.",
    "Give the symbols for {a} and {b}.",
)
_NAME_PAIR_ASK = (
    "Names of {a} and {b}?",
    "Which elements are {a} and {b}?",
    "Name the elements {a} and {b}.",
)
_ATOMS_ASK = (
    "How many {name} atoms are in {formula}?",
    "{formula}: how many atoms of {name}?",
    "Number of {name} atoms in {formula}?",
)
_HEAVIER_ASK = (
    "Which is heavier, {a} or {b}?",
    "Which has more protons, {a} or {b}?",
    "{a} or {b}: which is the heavier element?",
)
_PROTON_SUM_ASK = (
    "How many protons do {a} and {b} have together?",
    "Add the atomic numbers of {a} and {b}.",
    "Atomic number of {a} plus that of {b}?",
    "{a} and {b}: how many protons in all?",
)
# Two atomic numbers are added only up to here: the sums stay within the numbers of math.
_LAST_ADDED = 30


def _template(name: str) -> Template:
    def draw(rng: random.Random) -> Problem:
        fact = _FACTS[name]
        element = rng.choice(elements())
        phrasing = rng.randrange(len(fact.phrasings))
        question = fact.phrasings[phrasing].format(name=element.name, symbol=element.symbol, number=element.number)
        # A fact that training never shows cannot be learnt, so the content is a fact together
        # with a phrasing: evaluation asks in ways that training did not.
        content = f"{name} {element.number} {phrasing}"
        return Problem(content, question[0].upper() + question[1:], fact.answer(element))

    return draw


def _pair(rng: random.Random) -> Problem:
    """Two symbols at once: each is learnt from other pairs, and evaluation holds unseen pairs."""
    first, second = rng.sample(elements(), 2)
    question = rng.choice(_PAIR_ASK).format(a=first.name, b=second.name)
    return Problem(_pair_content("symbols", first, second), question, f"{first.symbol} {second.symbol}")


def _name_pair(rng: random.Random) -> Problem:
    first, second = rng.sample(elements(), 2)
    question = rng.choice(_NAME_PAIR_ASK).format(a=first.symbol, b=second.symbol)
    return Problem(_pair_content("names", first, second), question, f"{first.name} {second.name}")


def _atoms(rng: random.Random) -> Problem:
    """Find an element's count in a formula: its name has to be taken for its symbol."""
    first, second = rng.sample(elements(), 2)
    counts = rng.sample(range(2, 10), 2)
    asked = rng.randrange(2)
    name, formula = (first, second)[asked].name, f"{first.symbol}{counts[0]}{second.symbol}{counts[1]}"
    question = rng.choice(_ATOMS_ASK).format(name=name, formula=formula)
    return Problem(f"atoms {formula} {asked}", question, str(counts[asked]))


def _all_atoms(rng: random.Random) -> Problem:
    first, second = rng.sample(elements(), 2)
    m, n = rng.randint(2, 9), rng.randint(2, 9)
    formula = f"{first.symbol}{m}{second.symbol}{n}"
    question = rng.choice(("How many atoms are in {f}?", "Number of atoms in {f}?")).format(f=formula)
    return Problem(f"all atoms {formula}", question, str(m + n))


def _heavier(rng: random.Random) -> Problem:
    first, second = rng.sample(elements(), 2)
    question = rng.choice(_HEAVIER_ASK).format(a=first.name, b=second.name)
    return Problem(_pair_content("heavier", first, second), question, max(first, second, key=_number).name)


def _proton_sum(rng: random.Random) -> Problem:
    """Recall two atomic numbers and add them."""
    first, second = rng.sample(elements()[:_LAST_ADDED], 2)
    question = rng.choice(_PROTON_SUM_ASK).format(a=first.name, b=second.name)
    return Problem(_pair_content("protons", first, second), question, str(first.number + second.number))


def _number(element: Element) -> int:
    return element.number


def _pair_content(asked: str, first: Element, second: Element) -> str:
    """Return the content of a question about two elements, the same in either order."""
    return f"{asked} {min(first.number, second.number)} {max(first.number, second.number)}"


SCIENCE = Task(
    domain="science",
    description="Symbols, names, atomic numbers and formulas of the elements up to 60; exact match.",
    templates={name: _template(name) for name in _FACTS}
    | {
        "pair": _pair,
        "name_pair": _name_pair,
        "atoms": _atoms,
        "all_atoms": _all_atoms,
        "heavier": _heavier,
        "proton_sum": _proton_sum,
    },
    mixes={
        "symbols": Mix(
            {"symbol": 0.4, "name": 0.4, "number": 0.2},
            "medium",
            "Symbols and names in new phrasings (730 train rows, 285 evaluation rows).",
        ),
        "elements": Mix(
            {"symbol": 0.35, "name": 0.35, "number": 0.15, "numbered": 0.15},
            "medium",
            "Symbols, names and numbers in new phrasings (834 train rows, 325 evaluation rows).",
        ),
        "numbers": Mix(
            {"number": 0.25, "numbered": 0.25, "heavier": 0.5}, "hard", "Atomic numbers, and which of two is larger."
        ),
        "formulas": Mix(
            {"atoms": 0.6, "all_atoms": 0.4}, "easy", "Atoms in a formula; the answers are numbers, as in math."
        ),
        "pairs": Mix({"pair": 0.6, "name_pair": 0.4}, "medium", "Two symbols or two names at once."),
        "arithmetic": Mix(
            {"proton_sum": 0.5, "heavier": 0.3, "all_atoms": 0.2},
            "hard",
            "Sums over atomic numbers, in the words of math.",
        ),
    },
)
