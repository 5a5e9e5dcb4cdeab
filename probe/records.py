"""Records and the base error that every module of MergeProbe shares."""

from __future__ import annotations

from dataclasses import dataclass

Weight = float | tuple[float, float, float]
"""A member's weight: one positive number, or one for each layer band (lower, middle, upper)."""


class MergeProbeError(Exception):
    """Base of every error that a user of MergeProbe can cause or mend.

    The message says what was seen, what was expected and what to do next.
    """


@dataclass(frozen=True, slots=True, order=True)
class Pruned:
    """A part of one member that is left out of a merge.

    Attributes
    ----------
    member
        Position of the member.
    module
        Base module name.
    component
        Which rank-one component of its update there, 0 the strongest; None is the whole module.
    """

    member: int
    module: str
    component: int | None = None
