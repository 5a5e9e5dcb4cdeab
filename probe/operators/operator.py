"""What a row of the operator table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]
"""(cores (n, k_B, k_A), weights (n,)) -> merged core (k_B, k_A), all float64."""


class Property(StrEnum):
    """What an operator promises without norm control and before truncation; the contract test holds it to that."""

    LINEAR = "linear in the updates"
    SCALE_EQUIVARIANT = "scaling every update scales the result alike"
    ZERO_NEUTRAL = "a zero update changes nothing"
    IDEMPOTENT = "equal updates merge into that same update"


@dataclass(frozen=True, slots=True)
class HyperParameter:
    """A number that an operator takes, its default and the reason for that default."""

    name: str
    default: float
    reason: str


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to merge. Every operator is invariant to gauge and order, and returns a lone member unchanged.

    Attributes
    ----------
    rule
        The operator itself, on the core matrices of one module.
    source
        Paper that it comes from.
    properties
        What it promises beyond those three.
    needs
        Data that it needs beyond the updates; empty: none.
    """

    key: str
    rule: Rule
    hyper_parameters: tuple[HyperParameter, ...]
    source: str
    properties: frozenset[Property]
    needs: frozenset[str] = frozenset()
