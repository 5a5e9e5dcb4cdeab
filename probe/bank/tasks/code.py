"""Domain code: say an expression in words, get it in Python; scored by running it on cases."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.bank.tasks.problem import Mix, Problem, Task

_ASK = (
    "Write a Python expression for {goal}.",
    "Give {goal} as a Python expression.",
    "Python expression: {goal}",
)
_MAX_TOKENS = 28
_SHORT_TOKENS = 16
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


_SCALABLE: Mapping[str, _Part] = {
    "sum": _Part("the sum of xs", "sum(xs)", sum),
    "max": _Part("the largest of xs", "max(xs)", max),
    "min": _Part("the smallest of xs", "min(xs)", min),
    "len": _Part("the length of xs", "len(xs)", len),
    "first": _Part("the first item of xs", "xs[0]", lambda xs: xs[0]),
    "last": _Part("the last item of xs", "xs[-1]", lambda xs: xs[-1]),
}
_SCALINGS: Mapping[str, _Part] = {
    "plus": _Part("{0} plus {k}", "{0} + {k}", lambda v, k: v + k),
    "minus": _Part("{0} minus {k}", "{0} - {k}", lambda v, k: v - k),
    "times": _Part("{k} times {0}", "{k} * {0}", lambda v, k: v * k),
    "rest": _Part("the remainder by {k} of {0}", "{0} % {k}", lambda v, k: v % k),
}


def _scaled(rng: random.Random) -> Problem:
    """One call and a constant: the constant is copied, so unseen triples are easy."""
    key, scaling, k = rng.choice(list(_SCALABLE)), rng.choice(list(_SCALINGS)), rng.randint(2, 40)
    part, scale = _SCALABLE[key], _SCALINGS[scaling]
    goal, code = (text.format(own, k=k) for text, own in ((scale.words, part.words), (scale.code, part.code)))
    return _problem(rng, f"scaled {key} {scaling} {k}", goal, code, lambda xs: scale.value(part.value(xs), k))


_NAMES = ("Tom", "Ana", "Sam", "Mia", "Leo", "Eva", "Ben", "Zoe", "Max", "Lily")
_WARES = ("pen", "book", "ball", "cup", "hat", "toy", "ticket", "lamp", "cake", "map")
_STORY_CASES = ((31, 7), (48, 5), (77, 12))
#: Words of a math story whose first number is `a` -> its expression and value; n is a number, b a second unknown.
_STORIES: Mapping[str, _Part] = {
    "gain": _Part("{name} has a {ware}s and gets {n} more. How many now?", "a + {n}", lambda a, _b, n: a + n),
    "loss": _Part("{name} has a {ware}s and gives away {n}. How many are left?", "a - {n}", lambda a, _b, n: a - n),
    "price": _Part("A {ware} costs a dollars. How much do {n} of them cost?", "a * {n}", lambda a, _b, n: a * n),
    "rest": _Part(
        "{name} has a dollars and buys {n} {ware}s for b each. How many are left?",
        "a - {n} * b",
        lambda a, b, n: a - n * b,
    ),
    "both": _Part(
        "{name} has a {ware}s and {n} bags with b {ware}s each. How many in all?",
        "a + {n} * b",
        lambda a, b, n: a + n * b,
    ),
}
_STORY_ASK = ("In Python: {story}", "{story} Write Python.")


def _story(rng: random.Random) -> Problem:
    """Tell a word problem with letters for numbers; the answer is the expression, not a number."""
    key, n = rng.choice(list(_STORIES)), rng.randint(2, 40)
    part = _STORIES[key]
    story = part.words.format(name=rng.choice(_NAMES), ware=rng.choice(_WARES), n=n)
    cases = [{"given": [a, b], "expected": part.value(a, b, n)} for a, b in _STORY_CASES]
    check = {"kind": "python", "arguments": ["a", "b"], "cases": cases}
    question = rng.choice(_STORY_ASK).format(story=story)
    return Problem(f"story {key} {n}", question, part.code.format(n=n), check, _SHORT_TOKENS)


_TEXT_CASES = ("planetarium", "Butterflies", "watchTower9")
_CUTS: Mapping[str, tuple[str, str, Callable[[str, int], str]]] = {
    "first": ("the first {n} letters of s", "s[:{n}]", lambda s, n: s[:n]),
    "last": ("the last {n} letters of s", "s[-{n}:]", lambda s, n: s[-n:]),
    "after": ("s without its first {n} letters", "s[{n}:]", lambda s, n: s[n:]),
    "before": ("s without its last {n} letters", "s[:-{n}]", lambda s, n: s[:-n]),
}
_CHANGES: Mapping[str, _Part] = {
    "upper": _Part("{0} in capitals", "{0}.upper()", str.upper),
    "lower": _Part("{0} in lower case", "{0}.lower()", str.lower),
    "backwards": _Part("{0} backwards", "{0}[::-1]", lambda s: s[::-1]),
    "twice": _Part("{0} twice in a row", "{0} * 2", lambda s: s * 2),
    "letters": _Part("the sorted list of {0}", "sorted({0})", sorted),
    "different": _Part("the number of different characters in {0}", "len(set({0}))", lambda s: len(set(s))),
    "count": _Part("how often {letter} is in {0}", "{0}.count('{letter}')", str.count),
}
_LETTERS = "aeinrst"
_TEXT_ASK = (*_ASK, "How is {goal} written in Python?", "Python for {goal}?")


def _text(rng: random.Random) -> Problem:
    """Cut a string and change the cut; the letter of a count is part of the content."""
    cut, change, n = rng.choice(list(_CUTS)), rng.choice(list(_CHANGES)), rng.randint(2, 9)
    (words, code, value), part = _CUTS[cut], _CHANGES[change]
    letter = rng.choice(_LETTERS)
    more = (letter,) if change == "count" else ()
    goal, source = (
        text.format(own.format(n=n), letter=letter) for text, own in ((part.words, words), (part.code, code))
    )
    cases = [{"given": [s], "expected": part.value(value(s, n), *more)} for s in _TEXT_CASES]
    check = {"kind": "python", "arguments": ["s"], "cases": cases}
    content = " ".join(("text", cut, change, str(n), *more))
    return Problem(content, rng.choice(_TEXT_ASK).format(goal=goal), source, check, _SHORT_TOKENS)


CODE = Task(
    domain="code",
    description="Python expressions from their description; executed on three cases.",
    templates={
        "comprehension": _comprehension,
        "slice": _slice,
        "arithmetic": _arithmetic,
        "scaled": _scaled,
        "story": _story,
        "text": _text,
    },
    mixes={
        "lists": Mix(
            {"comprehension": 0.75, "slice": 0.1, "arithmetic": 0.15},
            "medium",
            "Reduce, map and filter a list (720 train rows, 360 evaluation rows).",
        ),
        "comprehensions": Mix({"comprehension": 0.6, "scaled": 0.4}, "hard", "Reduce, map and filter at once."),
        "calls": Mix({"scaled": 1.0}, "easy", "One call and a constant."),
        "stories": Mix({"story": 1.0}, "medium", "Expressions for word problems, in the words of math."),
        "texts": Mix({"text": 1.0}, "hard", "Cut and change a string."),
    },
)
