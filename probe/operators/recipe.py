"""A recipe's parts that compose with any operator: weights, pruned parts, hyper-parameters, norm, output rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from probe.factors import LoraFactor, LoraUpdate, canonical
from probe.layers import BANDS, band_of, num_layers_of, place_of
from probe.operators.operator import Norm, Operator
from probe.records import MergeProbeError, Pruned, Weight

OUTPUT_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM serves (its `max_lora_rank`)."""


class MergeError(MergeProbeError):
    """These updates cannot be merged in this way."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to merge, apart from what: equal recipes over equal members give equal results.

    Attributes
    ----------
    operator
        A key of `OPERATORS`.
    weights
        One a member; None is 1 for each (or what the operator makes of equal weights).
    norm
        None is the operator's own rule.
    rank
        Largest rank of any module of the result; None is the largest member rank, rounded up to one that the engine
        has (`output_rank`).
    pruned
        Parts left out before the operator runs.
    hyper_parameters
        By name; those not given have their defaults.
    seed
        Of every random number.
    """

    operator: str
    weights: tuple[Weight, ...] | None = None
    norm: Norm | None = None
    rank: int | None = None
    pruned: tuple[Pruned, ...] = ()
    hyper_parameters: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


def output_rank(largest: int, available: Sequence[int] = OUTPUT_RANKS) -> int:
    """Round a rank up to one that the engine has; an engine too small for it gives its largest."""
    ordered = sorted(available)
    return next((rank for rank in ordered if rank >= largest), ordered[-1])


def joint_rank(ranks: Iterable[int], available: Sequence[int] = OUTPUT_RANKS) -> int:
    """Return the rank that holds all members of a sum whole, rounded up; the engine's largest where it has no such.

    An engine reserves its largest rank for every module, so that a merge of less would save nothing.
    """
    return output_rank(sum(ranks), available)


def resolve_hyper_parameters(operator: Operator, given: Mapping[str, float]) -> Mapping[str, float]:
    """Return the operator's hyper-parameters, with the given values over the defaults.

    Raises
    ------
    MergeError
        A name is unknown to the operator, or a value is out of bounds.
    """
    known = {parameter.name: parameter for parameter in operator.hyper_parameters}
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise MergeError(f"Operator {operator.key!r} has no hyper-parameter {name!r}; it takes: {takes}.")
        low, high = known[name].bounds
        if not low <= value <= high:
            raise MergeError(f"{operator.key}: {name} is {value}, expected {low:g} to {high:g}.")
    return {**operator.defaults(), **given}


def weights_by_band(weights: Sequence[Weight] | None, num_members: int) -> Mapping[str, tuple[float, ...]]:
    """Return band -> the members' weights there.

    Raises
    ------
    MergeError
        There is not one weight a member, or one is not a positive number.
    """
    given = (1.0,) * num_members if weights is None else tuple(weights)
    triples = [weight if isinstance(weight, tuple) else (weight,) * len(BANDS) for weight in given]
    sound = all(len(triple) == len(BANDS) and all(0 < value < math.inf for value in triple) for triple in triples)
    if len(given) != num_members or not sound:
        raise MergeError(
            f"Got the weights {list(given)} for {num_members} updates; expected one positive number each, "
            f"or one for each layer band ({', '.join(BANDS)})."
        )
    return {band: tuple(triple[index] for triple in triples) for index, band in enumerate(BANDS)}


def band_of_module(module: str, num_layers: int) -> str:
    """Return the layer band of a module; one outside the numbered blocks counts to the middle."""
    layer = place_of(module).layer
    return BANDS[1] if layer is None else band_of(layer, num_layers)


def depth_of(updates: Sequence[LoraUpdate]) -> int:
    """Return the number of blocks that the updates' modules span."""
    return num_layers_of(name for update in updates for name in update.factors)


def without_pruned(updates: Sequence[LoraUpdate], pruned: Sequence[Pruned]) -> list[LoraUpdate]:
    """Return the updates without the pruned parts.

    Raises
    ------
    MergeError
        A part does not exist, or nothing is left of a member.
    """
    kept = list(updates)
    for (member, module), components in _by_module(pruned).items():
        if not 0 <= member < len(kept) or module not in updates[member].factors:
            raise MergeError(f"Cannot prune {module!r} of member {member}: there is no such module.")
        factors = dict(kept[member].factors)
        if None in components:
            del factors[module]
        else:
            factors[module] = _without_components(factors[module], [c for c in components if c is not None], module)
        kept[member] = LoraUpdate(factors)
    if not all(update.factors for update in kept):
        raise MergeError("Pruning leaves nothing of a member; route it instead, or prune less.")
    return kept


def _by_module(pruned: Sequence[Pruned]) -> dict[tuple[int, str], list[int | None]]:
    parts: dict[tuple[int, str], list[int | None]] = {}
    for part in pruned:
        parts.setdefault((part.member, part.module), []).append(part.component)
    return parts


def _without_components(factor: LoraFactor, components: Sequence[int], module: str) -> LoraFactor:
    own = canonical(factor)
    outside = [component for component in components if not 0 <= component < own.rank]
    if outside:
        raise MergeError(f"Cannot prune component {outside[0]} of {module!r}: its update has rank {own.rank}.")
    kept = [index for index in range(own.rank) if index not in set(components)]
    # A module of which nothing is left stays as a zero of rank 1, because a factor has at least one column.
    B, A = (own.B[:, kept], own.A[kept]) if kept else (own.B[:, :1] * 0, own.A[:1] * 0)  # noqa: N806
    return LoraFactor(B=B, A=A)
