"""The chemical elements that the tasks ask about, from the data package `periodictable`."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass

from probe.bank.tasks.problem import TaskError

# Heavier elements are so rare in text that the base model knows next to nothing to build on.
_LAST_NUMBER = 60


@dataclass(frozen=True, slots=True)
class Element:
    """An element; its name is in lower case."""

    number: int
    symbol: str
    name: str


@functools.cache
def elements() -> tuple[Element, ...]:
    """Return the elements 1 to 60, in their order.

    Raises
    ------
    TaskError
        The data package is not installed; only generating rows needs it, scoring stored ones does not.
    """
    try:
        table = importlib.import_module("periodictable").elements
    except ImportError as error:
        raise TaskError(
            "the facts about elements come from the package 'periodictable', which is not "
            "installed; install it to generate rows (scoring stored rows does not need it)"
        ) from error
    return tuple(
        Element(element.number, element.symbol, element.name)
        for element in table
        if 1 <= element.number <= _LAST_NUMBER
    )
