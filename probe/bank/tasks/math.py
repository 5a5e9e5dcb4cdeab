"""Domain math: one-step word problems whose answer is a number, scored by forcing."""

from __future__ import annotations

import random

from probe.bank.tasks.problem import Problem, Task

_NAMES = ("Tom", "Ana", "Sam", "Mia", "Leo", "Eva", "Ben", "Zoe", "Max", "Lily")
_THINGS = ("apples", "pens", "books", "coins", "cards", "shells", "stamps", "marbles", "eggs")
_WARES = ("pen", "book", "ball", "cup", "hat", "toy", "ticket", "lamp", "cake", "map")


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


MATH = Task(
    domain="math",
    description="One-step word problems with numbers up to 60; the number must match exactly.",
    templates={
        "gain": _gain,
        "loss": _loss,
        "groups": _groups,
        "earn": _earn,
        "spend": _spend,
        "price": _price,
    },
    mixes={
        "things": {"gain": 0.4, "loss": 0.4, "groups": 0.2},
        "money": {"earn": 0.25, "spend": 0.25, "price": 0.2, "gain": 0.15, "loss": 0.15},
    },
)
