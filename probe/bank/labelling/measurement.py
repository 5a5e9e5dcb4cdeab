"""What can be asked of a bank: one module, and whose rows it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from probe.factors import LoraUpdate
from probe.layers import num_layers_of
from probe.operators import OPERATORS, Norm, Pruned, Recipe
from probe.operators.recipe import band_of_module
from probe.records import MergeProbeError

NO_OPERATOR = "none"
"""Operator of the base and of a single adapter."""


NORMS: Mapping[str, Norm] = {"ta": "none"}
"""Norm rules other than an operator's own. Under norm control the sum and the mean of equally weighted members are one
update, so `ta` is measured as the sum that it is, and `mean` as it is served."""


class MeasurementError(MergeProbeError):
    """A measurement names what the bank does not have."""


class Stage(StrEnum):
    """Parts of the plan, in the order in which they are measured: what is most worth knowing comes first."""

    OWN = "own"
    SINGLES = "singles"
    PAIRS = "pairs"
    SETS = "sets"
    PROOF = "proof"
    DOMAINS = "domains"
    OPERATORS = "operators"
    PREFERENCES = "preferences"
    CONTROLS = "controls"
    REWORKED = "reworked"
    CLOSER = "closer"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One module and the adapters whose rows it answers; two are equal if they ask the same.

    Attributes
    ----------
    stage
        Why it is asked; not part of what is asked.
    members
        Names, ascending; none is the base, one is that adapter as it is.
    asked
        Names, ascending, whose evaluation rows are answered.
    operator, weights, pruned, norm, seed
        As in `probe.bank.records.Label`; a norm of None is the operator's own.
    is_further
        Whether the rows after the first ones are answered, which are asked only where a verdict is open.
    """

    stage: Stage = field(compare=False)
    members: tuple[str, ...]
    asked: tuple[str, ...]
    operator: str = NO_OPERATOR
    weights: tuple[float, ...] | None = None
    pruned: str | None = None
    norm: Norm | None = None
    seed: int = 0
    is_further: bool = False

    @property
    def action(self) -> str:
        """``base``, ``single``, ``prune``, ``reweight`` or ``merge``."""
        if len(self.members) < 2:
            return "single" if self.members else "base"
        return "prune" if self.pruned else "reweight" if self.weights else "merge"

    def recipe(self, updates: Mapping[str, LoraUpdate], rank: int) -> Recipe:
        """Return how the members' updates are merged.

        Raises
        ------
        MeasurementError
            The pruned band is no band of a member.
        """
        return Recipe(
            operator=self.operator,
            weights=self.weights,
            norm=self.norm,
            rank=rank,
            pruned=self._pruned(updates),
            seed=self.seed,
        )

    def _pruned(self, updates: Mapping[str, LoraUpdate]) -> tuple[Pruned, ...]:
        if self.pruned is None:
            return ()
        name, _, band = self.pruned.rpartition(":")
        if name not in self.members:
            raise MeasurementError(f"Cannot prune {self.pruned!r} of {self.members}: expected member:band.")
        depth = num_layers_of(module for update in updates.values() for module in update.factors)
        modules = [module for module in updates[name].factors if band_of_module(module, depth) == band]
        return tuple(Pruned(self.members.index(name), module) for module in modules)


def merged(stage: Stage, names: Iterable[str], operator: str, guests: Iterable[str] = (), **parts: Any) -> Measurement:
    """Return a merge that answers every member's rows.

    Parameters
    ----------
    guests
        Names whose rows it answers too, though they are not in it.
    """
    members = tuple(sorted(names))
    asked = tuple(sorted({*members, *guests}))
    return Measurement(stage, members, asked, operator, norm=NORMS.get(operator), **parts)


def needs_data(measurement: Measurement) -> bool:
    """Say whether the merge reads calibrations of its members."""
    return measurement.operator in OPERATORS and bool(OPERATORS[measurement.operator].needs)
