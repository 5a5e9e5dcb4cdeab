"""Domain math: sums and word problems whose answer is a number, scored by forcing.

The content of a one-step problem is its operation and numbers, whatever the story, so all templates share them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from probe.bank.tasks.problem import Mix, Problem, Task, Template

_NAMES = ("Tom", "Ana", "Sam", "Mia", "Leo", "Eva", "Ben", "Zoe", "Max", "Lily")
_THINGS = ("apples", "pens", "books", "coins", "cards", "shells", "stamps", "marbles", "eggs")
_WARES = ("pen", "book", "ball", "cup", "hat", "toy", "ticket", "lamp", "cake", "map")
_VESSELS = ("flasks", "tubes", "jars", "beakers", "crystals", "molecules")
_UNITS = ("atoms", "ions", "grams", "drops", "electrons")


def _add(rng: random.Random) -> tuple[int, int, str]:
    a, b = rng.randint(2, 20), rng.randint(2, 9)
    return a, b, f"add {min(a, b)} {max(a, b)}"


def _subtract(rng: random.Random) -> tuple[int, int, str]:
    a = rng.randint(5, 20)
    b = rng.randint(2, min(a - 2, 9))
    return a, b, f"subtract {a} {b}"


def _multiply(rng: random.Random) -> tuple[int, int, str]:
    a, b = rng.randint(2, 6), rng.randint(2, 10)
    return a, b, f"multiply {min(a, b)} {max(a, b)}"


def _gain(rng: random.Random) -> Problem:
    a, b, content = _add(rng)
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    question = f"{name} has {a} {things} and gets {b} more. How many now?"
    return Problem(content, question, str(a + b))


def _loss(rng: random.Random) -> Problem:
    a, b, content = _subtract(rng)
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    question = f"{name} has {a} {things} and gives away {b}. How many are left?"
    return Problem(content, question, str(a - b))


def _groups(rng: random.Random) -> Problem:
    a, b, content = _multiply(rng)
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    question = f"{name} has {a} bags with {b} {things} each. How many {things} in all?"
    return Problem(content, question, str(a * b))


def _earn(rng: random.Random) -> Problem:
    a, b, content = _add(rng)
    name = rng.choice(_NAMES)
    question = f"{name} has {a} dollars and earns {b} more. How many dollars now?"
    return Problem(content, question, str(a + b))


def _spend(rng: random.Random) -> Problem:
    a, b, content = _subtract(rng)
    name, ware = rng.choice(_NAMES), rng.choice(_WARES)
    question = f"{name} has {a} dollars and buys a {ware} for {b}. How many dollars are left?"
    return Problem(content, question, str(a - b))


def _price(rng: random.Random) -> Problem:
    a, b, content = _multiply(rng)
    ware = rng.choice(_WARES)
    question = f"A {ware} costs {a} dollars. How much do {b} of them cost?"
    return Problem(content, question, str(a * b))


def _wide_add(rng: random.Random) -> tuple[int, int, str]:
    a, b = rng.randint(2, 40), rng.randint(2, 20)
    return a, b, f"add {min(a, b)} {max(a, b)}"


def _wide_subtract(rng: random.Random) -> tuple[int, int, str]:
    a = rng.randint(6, 60)
    b = rng.randint(2, min(a - 2, 20))
    return a, b, f"subtract {a} {b}"


def _sum(rng: random.Random) -> Problem:
    a, b, content = _wide_add(rng)
    ask = rng.choice(("What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.", "{a} plus {b}?"))
    return Problem(content, ask.format(a=a, b=b), str(a + b))


def _difference(rng: random.Random) -> Problem:
    a, b, content = _wide_subtract(rng)
    ask = rng.choice(("What is {a} - {b}?", "{a} - {b} =", "Subtract {b} from {a}.", "{a} minus {b}?"))
    return Problem(content, ask.format(a=a, b=b), str(a - b))


def _larger(rng: random.Random) -> Problem:
    a, b = rng.sample(range(2, 61), 2)
    ask = rng.choice(("Which is larger, {a} or {b}?", "The larger of {a} and {b}?"))
    return Problem(f"larger {min(a, b)} {max(a, b)}", ask.format(a=a, b=b), str(max(a, b)))


def _nucleus(rng: random.Random) -> Problem:
    a, b, content = _wide_add(rng)
    ask = rng.choice(
        (
            "An atom has {a} protons and {b} neutrons. What is its mass number?",
            "{a} protons and {b} neutrons: how many particles?",
            "An atom with {a} electrons gains {b}. How many electrons now?",
        )
    )
    return Problem(content, ask.format(a=a, b=b), str(a + b))


def _neutrons(rng: random.Random) -> Problem:
    a, b, content = _wide_subtract(rng)
    ask = rng.choice(
        (
            "An atom of mass number {a} has {b} protons. How many neutrons?",
            "An atom with {a} electrons loses {b}. How many electrons are left?",
            "{a} atoms, {b} of them decay. How many atoms are left?",
        )
    )
    return Problem(content, ask.format(a=a, b=b), str(a - b))


def _flasks(rng: random.Random) -> Problem:
    a, b, content = _multiply(rng)
    vessel, unit = rng.choice(_VESSELS), rng.choice(_UNITS)
    return Problem(content, f"{a} {vessel} hold {b} {unit} each. How many {unit} in all?", str(a * b))


_LIST_ASK = (
    "xs = {xs}. What is {goal}?",
    "Give {goal} for xs = {xs}.",
    "xs = {xs}: {goal}?",
)
#: In the words of the code domain, but the value is asked for, not the expression.
_LIST_GOALS: Mapping[str, tuple[str, Callable[[Sequence[int]], int]]] = {
    "max": ("the largest of xs", max),
    "min": ("the smallest of xs", min),
    "last": ("the last item of xs", lambda xs: xs[-1]),
    "even": ("the number of even items of xs", lambda xs: sum(x % 2 == 0 for x in xs)),
}


def _list(goal: str) -> Template:
    words, value = _LIST_GOALS[goal]

    def draw(rng: random.Random) -> Problem:
        xs = rng.sample(range(1, 20), 4)
        content = f"list {goal} {xs if goal == 'last' else sorted(xs)}"
        return Problem(content, _list_question(rng, xs, words), str(value(xs)))

    return draw


def _list_sum(rng: random.Random) -> Problem:
    """Sum a list of two, which is the same problem as the sum of two numbers."""
    a, b, content = _wide_add(rng)
    return Problem(content, _list_question(rng, [a, b], "the sum of xs"), str(a + b))


def _list_question(rng: random.Random, xs: Sequence[int], goal: str) -> str:
    return rng.choice(_LIST_ASK).format(xs=list(xs), goal=goal)


def _there_and_back(rng: random.Random) -> Problem:
    a, b = rng.randint(4, 20), rng.randint(2, 9)
    c = rng.randint(2, min(a + b - 2, 9))
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    question = f"{name} has {a} {things}, gets {b} more and gives away {c}. How many now?"
    return Problem(f"add and subtract {a} {b} {c}", question, str(a + b - c))


def _change(rng: random.Random) -> Problem:
    a, b = rng.randint(2, 6), rng.randint(2, 9)
    c = rng.randint(a * b + 1, 60)
    name, ware = rng.choice(_NAMES), rng.choice(_WARES)
    question = f"{name} has {c} dollars and buys {a} {ware}s for {b} each. How many dollars are left?"
    return Problem(f"multiply and subtract {min(a, b)} {max(a, b)} {c}", question, str(c - a * b))


MATH = Task(
    domain="math",
    description="Sums and word problems with numbers up to 60; the number must match exactly.",
    templates={
        "gain": _gain,
        "loss": _loss,
        "groups": _groups,
        "earn": _earn,
        "spend": _spend,
        "price": _price,
        "sum": _sum,
        "difference": _difference,
        "larger": _larger,
        "nucleus": _nucleus,
        "neutrons": _neutrons,
        "flasks": _flasks,
        "list_sum": _list_sum,
        "list_max": _list("max"),
        "list_min": _list("min"),
        "list_last": _list("last"),
        "list_even": _list("even"),
        "there_and_back": _there_and_back,
        "change": _change,
    },
    mixes={
        "things": Mix({"gain": 0.4, "loss": 0.4, "groups": 0.2}, "medium", "One step, stories about things."),
        "money": Mix(
            {"earn": 0.25, "spend": 0.25, "price": 0.2, "gain": 0.15, "loss": 0.15},
            "medium",
            "One step, stories about money.",
        ),
        "sums": Mix({"sum": 0.35, "difference": 0.35, "larger": 0.3}, "easy", "Bare sums within 60."),
        "lists": Mix(
            {"list_sum": 0.3, "list_max": 0.2, "list_min": 0.2, "list_last": 0.15, "list_even": 0.15},
            "medium",
            "Values of short lists, in the words of code.",
        ),
        "atoms": Mix(
            {"nucleus": 0.4, "neutrons": 0.4, "flasks": 0.2},
            "medium",
            "One step within 60, in the words of science.",
        ),
        "steps": Mix(
            {"there_and_back": 0.4, "change": 0.2, "gain": 0.2, "loss": 0.2},
            "hard",
            "Two steps, mixed with one-step stories in the same words.",
        ),
    },
)
