"""Check `constraints`: the answer obeys what can be verified by reading it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probe.scoring.errors import ScoringError

_EDGE = ".,!?;:\"'"
# Short, because a text of thousands of digits costs more to read as a number than it is worth.
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def check_constraints(texts: Sequence[str], checks: Sequence[Mapping[str, Any]]) -> list[float]:
    """Score 1 where every constraint of the check holds, else 0: half an order is not obeyed."""
    return [float(_holds(text, check)) for text, check in zip(texts, checks, strict=True)]


def _holds(text: str, check: Mapping[str, Any]) -> bool:
    wanted = {name: value for name, value in check.items() if name != "kind"}
    unknown = sorted(set(wanted) - set(CONSTRAINTS))
    if unknown or not wanted:
        raise ScoringError(
            f"check 'constraints' saw {unknown or 'no constraint'}; expected at least one of {', '.join(CONSTRAINTS)}"
        )
    return bool(_words(text)) and all(CONSTRAINTS[name](text, wanted[name]) for name in wanted)


def _words(text: str) -> list[str]:
    """Split `text` into lower-case words without their edge punctuation."""
    words = (word.strip(_EDGE).lower() for word in text.split())
    return [word for word in words if word]


def _num_words(text: str, count: int) -> bool:
    return len(_words(text)) == count


def _max_words(text: str, count: int) -> bool:
    return len(_words(text)) <= count


def _min_words(text: str, count: int) -> bool:
    return len(_words(text)) >= count


def _starts_with(text: str, word: str) -> bool:
    return _words(text)[0] == word.lower()


def _ends_with(text: str, word: str) -> bool:
    return _words(text)[-1] == word.lower()


def _contains(text: str, word: str) -> bool:
    return word.lower() in _words(text)


def _only_word(text: str, word: str) -> bool:
    return set(_words(text)) == {word.lower()}


def _initial(text: str, letter: str) -> bool:
    return all(word.startswith(letter.lower()) for word in _words(text))


def _is_distinct(text: str, wanted: bool) -> bool:
    return (len(set(_words(text))) == len(_words(text))) is wanted


def _is_uppercase(text: str, wanted: bool) -> bool:
    return text.isupper() is wanted


def _is_lowercase(text: str, wanted: bool) -> bool:
    return text.islower() is wanted


def _has_commas(text: str, wanted: bool) -> bool:
    return ("," in text) is wanted


def _numbers(text: str) -> list[int] | None:
    """Return the words as whole numbers, or None if one of them is none."""
    words = _words(text)
    return [int(word) for word in words] if all(_NUMBER.fullmatch(word) for word in words) else None


def _multiples_of(text: str, factor: int) -> bool:
    numbers = _numbers(text)
    return numbers is not None and all(number % factor == 0 for number in numbers)


def _above(text: str, bound: int) -> bool:
    numbers = _numbers(text)
    return numbers is not None and min(numbers) > bound


def _below(text: str, bound: int) -> bool:
    numbers = _numbers(text)
    return numbers is not None and max(numbers) < bound


#: name -> (text, value) -> does it hold; the text has at least one word.
CONSTRAINTS: Mapping[str, Callable[[str, Any], bool]] = {
    "num_words": _num_words,
    "max_words": _max_words,
    "min_words": _min_words,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "contains": _contains,
    "only_word": _only_word,
    "initial": _initial,
    "distinct": _is_distinct,
    "uppercase": _is_uppercase,
    "lowercase": _is_lowercase,
    "commas": _has_commas,
    "multiples_of": _multiples_of,
    "above": _above,
    "below": _below,
}
