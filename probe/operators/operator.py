"""What a row of the operator table says, and what a rule is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["none", "mean_source", "ta"]
"""How long the merged update is before truncation.

none: as the operator leaves it. mean_source: as long as its members on average, mean_i |D_i|. ta: as long as their
weighted sum. |.| is the Frobenius norm over the WHOLE update and one scalar multiplies every module: a norm per module
would amplify modules in which members cancel or hardly learnt anything, against the proportions that training chose.
"""


class Property(StrEnum):
    """What an operator promises without norm control and before truncation; the contract test holds it to that.

    Every operator is invariant to gauge and to the members' order, deterministic by seed, returns a lone member
    unchanged where its hyper-parameters are neutral, and gives a module that no member has a zero.
    """

    LINEAR = "linear in the updates"
    SCALE_EQUIVARIANT = "scaling every update scales the result alike"
    ZERO_NEUTRAL = "a zero update changes nothing"
    IDEMPOTENT = "equal updates merge into that same update where hyper-parameters are neutral"
    SEEDED = "draws random numbers, all from the seed"
    LOSSLESS = "refuses an output rank that would truncate"


class Need(StrEnum):
    """Data that an operator reads beyond the updates: each comes with the members' `Calibration`."""

    FISHER = "row and column marginals of the diagonal Fisher"
    INPUTS = "principal directions of the module's inputs"


class Space(StrEnum):
    """Coordinates that a rule works in; linear rules do not care, entrywise ones do."""

    CORE = "shared bases of outputs and inputs"
    INPUTS = "shared basis of outputs, the module's own input coordinates"


@dataclass(frozen=True, slots=True)
class HyperParameter:
    """A number that an operator takes.

    Attributes
    ----------
    default
        Written here and nowhere else: rules take every hyper-parameter by keyword, without a default.
    bounds
        Least and greatest allowed value, both included.
    reason
        For the default.
    neutral
        Value at which it changes nothing; None where there is none.
    """

    name: str
    default: float
    bounds: tuple[float, float]
    reason: str
    neutral: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """One module of every member, in shared coordinates, float64.

    Attributes
    ----------
    cores
        (n, k_B, k_A), C_i with D_i = Q_B C_i Q_A^T; zero where a member lacks the module.
    weights
        (n,), positive.
    rank
        Largest rank that the result may have; rules that choose a subspace choose one of this size.
    generator
        For every random number; seeded by the caller's seed and the module's name.
    tolerance
        Size, relative to a core's norm, up to which its entries and singular values are only rounding.
    fisher
        (n, k_B, k_A), the diagonal Fisher of each core's entries, >= 0; only for operators that need `FISHER`.
    input_moments
        (n, k_A, k_A), second moments E[x x^T] of the module's inputs on each member's task; only for operators that
        need `INPUTS`, whose Q_A spans the members' principal input directions as well.
    input_power
        (n,), E[|x|^2] / d_in over all input coordinates, those outside Q_A as well; given with `input_moments`.
    """

    cores: Tensor
    weights: Tensor
    rank: int
    generator: torch.Generator
    tolerance: float
    fisher: Tensor | None = None
    input_moments: Tensor | None = None
    input_power: Tensor | None = None

    @property
    def weighted(self) -> Tensor:
        """(n, k_B, k_A), w_i C_i."""
        return self.weights[:, None, None] * self.cores

    @property
    def is_present(self) -> Tensor:
        """(n,), whether a member changes this module at all: absent members neither vote nor count."""
        return self.cores.flatten(1).any(dim=1)

    @property
    def present(self) -> Members:
        """Those members alone that change this module."""
        chosen = self.is_present
        return replace(
            self,
            cores=self.cores[chosen],
            weights=self.weights[chosen],
            fisher=None if self.fisher is None else self.fisher[chosen],
            input_moments=None if self.input_moments is None else self.input_moments[chosen],
            input_power=None if self.input_power is None else self.input_power[chosen],
        )

    @property
    def lengths(self) -> Tensor:
        """(n,), Frobenius norms |C_i| = |D_i|."""
        lengths: Tensor = self.cores.flatten(1).norm(dim=1)
        return lengths

    @property
    def floor(self) -> Tensor:
        """(n,), absolute size up to which entries and singular values of each core are only rounding."""
        return self.tolerance * self.lengths


Rule = Callable[..., Tensor]
"""(members, **hyper-parameters) -> merged core (k_B, k_A), float64; at least one member changes the module."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to merge.

    Attributes
    ----------
    rule
        The operator itself, a pure function on one module's cores.
    source
        Paper that it comes from, and the equation or section.
    properties
        What it promises beyond gauge invariance, order invariance and determinism.
    needs
        Data beyond the updates; empty: none.
    space
        Coordinates of the cores.
    norm
        Norm rule unless the caller chooses another.
    """

    key: str
    rule: Rule
    hyper_parameters: tuple[HyperParameter, ...]
    source: str
    properties: frozenset[Property]
    needs: frozenset[Need] = frozenset()
    space: Space = Space.CORE
    norm: Norm = "mean_source"

    def defaults(self) -> Mapping[str, float]:
        """Return the hyper-parameters' defaults by name."""
        return {parameter.name: parameter.default for parameter in self.hyper_parameters}
