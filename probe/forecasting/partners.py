"""Whom an adapter could be merged with at all: adapters of the same base, unprotected, and other than itself."""

from __future__ import annotations

from collections.abc import Sequence

from probe.base_model import BaseShapes
from probe.forecasting.seen_adapter import ForecastingError, NoKnownAdapter, SeenAdapter
from probe.profiles import AdapterProfile
from probe.signals import Pair


class OtherBase(ForecastingError):
    """Two adapters are of different base models, so that they can never share a module."""


def partners_of(candidate: SeenAdapter, known: Sequence[SeenAdapter]) -> tuple[list[SeenAdapter], dict[str, str]]:
    """Return whom an adapter may be merged with, and name -> why not with the others.

    Raises
    ------
    NoKnownAdapter
        There is nobody.
    OtherBase
        All others are of another base.
    """
    left_out = {one.name: reason for one in known if (reason := _why_not(candidate, one))}
    others = [one for one in known if one.name not in left_out]
    if others:
        return others, left_out
    if known and all(_is_of_other_base(candidate, one) for one in known):
        bases = sorted({str(one.base_name) for one in known})
        raise OtherBase(
            f"{candidate.name} was trained on {candidate.base_name!r}, but the known adapters on {', '.join(bases)}; "
            "adapters of one base only can share a module. Forecast it against a bank of its own base."
        )
    told = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "the bank is empty"
    raise NoKnownAdapter(f"There is no adapter that {candidate.name} could be merged with ({told}).")


def _why_not(candidate: SeenAdapter, other: SeenAdapter) -> str | None:
    if other.is_protected:
        return "protected, so it is never merged"
    if other.revision == candidate.revision:
        return "it is this very adapter"
    if _is_of_other_base(candidate, other):
        return f"of another base model, {other.base_name}"
    return None


def _is_of_other_base(candidate: SeenAdapter, other: SeenAdapter) -> bool:
    """Say whether both name their base, and not the same one."""
    if candidate.base_name is None or other.base_name is None:
        return False
    return not BaseShapes(other.base_name, (), {}).accepts(candidate.base_name)


def check_shapes(candidate: SeenAdapter, own: AdapterProfile, other: SeenAdapter, theirs: AdapterProfile) -> None:
    """Refuse updates of modules that have one name and different shapes.

    Raises
    ------
    OtherBase
    """
    for name, (one, another) in Pair(own, theirs).modules.items():
        shapes = [(module.U.shape[0], module.V.shape[0]) for module in (one, another)]
        if shapes[0] != shapes[1]:
            raise OtherBase(
                f"Module {name!r} is {shapes[0]} in {candidate.name}, but {shapes[1]} in {other.name} (d_out, d_in): "
                "they were trained on different base models; forecast it against a bank of its own base."
            )
