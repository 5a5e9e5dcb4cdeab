"""Domain code: say an expression in words, get it in Python; scored by running it on cases."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.bank.tasks.problem import Problem, Task

_ASK = (
    "Write a Python expression for {goal}.",
    "Give {goal} as a Python expression.",
    "Python expression: {goal}",
)
_MAX_TOKENS = 28
_CASES: tuple[tuple[int, ...], ...] = (
    (4, 7, 2, 9, 6),
    (12, 3, 8, 8, 5, 1),
    (10, 15, 20, 31, 2, 7, 4),
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an expression: its words, its code, and what it computes."""

    words: str
    code: str
    value: Callable[..., Any]


# Each has no default for an empty list, so conditions below keep something of every case.
_REDUCERS: Mapping[str, _Part] = {
    "sum": _Part("the sum of {0}", "sum({0})", sum),
    "max": _Part("the largest of {0}", "max({0})", max),
    "min": _Part("the smallest of {0}", "min({0})", min),
    "list": _Part("the list of {0}", "list({0})", list),
    "sorted": _Part("the sorted list of {0}", "sorted({0})", sorted),
    "set": _Part("the number of different values among {0}", "len(set({0}))", lambda v: len(set(v))),
}
_MAPS: Mapping[str, _Part] = {
    "same": _Part("{0}", "v", lambda v, _k: v),
    "square": _Part("the squares of {0}", "v * v", lambda v, _k: v * v),
    "times": _Part("{k} times {0}", "v * {k}", lambda v, k: v * k),
    "plus": _Part("{k} plus {0}", "v + {k}", lambda v, k: v + k),
    "rest": _Part("the remainders by {k} of {0}", "v % {k}", lambda v, k: v % k),
}
_CONDITIONS: Mapping[str, _Part] = {
    "every": _Part("the items of xs", "", lambda _v, _m: True),
    "even": _Part("the even items of xs", " if v % 2 == 0", lambda v, _m: v % 2 == 0),
    "odd": _Part("the odd items of xs", " if v % 2 == 1", lambda v, _m: v % 2 == 1),
    "above": _Part("the items of xs above {m}", " if v > {m}", lambda v, m: v > m),
    "below": _Part("the items of xs below {m}", " if v < {m}", lambda v, m: v < m),
}


def _problem(rng: random.Random, content: str, goal: str, code: str, value: Callable[[list[int]], Any]) -> Problem:
    cases = [{"given": [list(case)], "expected": value(list(case))} for case in _CASES]
    check = {"kind": "python", "arguments": ["xs"], "cases": cases}
    return Problem(content, rng.choice(_ASK).format(goal=goal), code, check, _MAX_TOKENS)


def _comprehension(rng: random.Random) -> Problem:
    """Reduce, map and filter: the triple is the content, so evaluation holds unseen triples."""
    keys = rng.choice(list(_REDUCERS)), rng.choice(list(_MAPS)), rng.choice(list(_CONDITIONS))
    reducer, mapping, condition = _REDUCERS[keys[0]], _MAPS[keys[1]], _CONDITIONS[keys[2]]
    k, m = rng.randint(2, 9), rng.randint(3, 7)
    goal = reducer.words.format(mapping.words.format(condition.words.format(m=m), k=k))
    inner = f"{mapping.code.format(k=k)} for v in xs{condition.code.format(m=m)}"

    def value(xs: Sequence[int]) -> Any:
        return reducer.value([mapping.value(v, k) for v in xs if condition.value(v, m)])

    return _problem(rng, f"comprehension {' '.join(keys)}", goal, reducer.code.format(inner), value)


def _slice(rng: random.Random) -> Problem:
    """Cut a list and reduce the cut."""
    key = rng.choice(("sum", "max", "min", "list", "sorted"))
    side, n = rng.choice(("first", "last", "later")), rng.randint(2, 4)
    words = {"first": "the first {n} items of xs", "last": "the last {n} items of xs"}
    cut = {"first": f"xs[:{n}]", "last": f"xs[-{n}:]", "later": f"xs[{n}:]"}[side]
    start, stop = {"first": (0, n), "last": (-n, None), "later": (n, None)}[side]
    reducer = _REDUCERS[key]
    goal = reducer.words.format(words.get(side, "all items of xs after the first {n}").format(n=n))
    return _problem(
        rng,
        f"slice {key} {side} {n}",
        goal,
        reducer.code.format(cut),
        lambda xs: reducer.value(xs[start:stop]),
    )


def _arithmetic(rng: random.Random) -> Problem:
    """Combine two reductions with an operator and a constant."""
    left, right = rng.sample(("sum", "max", "min"), 2)
    sign = rng.choice(("+", "-"))
    k = rng.randint(2, 9)
    words = {"sum": "the sum of xs", "max": "the largest of xs", "min": "the smallest of xs"}
    joined = {"+": "plus", "-": "minus"}[sign]
    goal = f"{k} times {words[left]} {joined} {words[right]}"
    code = f"{k} * {left}(xs) {sign} {right}(xs)"

    def value(xs: Sequence[int]) -> int:
        a, b = _REDUCERS[left].value(xs), _REDUCERS[right].value(xs)
        return int(k * a + b if sign == "+" else k * a - b)

    return _problem(rng, f"arithmetic {left} {right} {sign} {k}", goal, code, value)


CODE = Task(
    domain="code",
    description="Python expressions over a list from their description; executed on three cases.",
    templates={"comprehension": _comprehension, "slice": _slice, "arithmetic": _arithmetic},
    mixes={
        "lists": {"comprehension": 0.75, "slice": 0.1, "arithmetic": 0.15},
        "comprehensions": {"comprehension": 1.0},
    },
)
