"""Merges with what was measured of them: labels of one module put together, what cannot be learnt from left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probe.bank.ceilings import Ceilings
from probe.bank.mergeability import safe_sides
from probe.bank.records import Label, Records
from probe.predictors.forecast import Merge, MergeRecipe

UNSOUND = "labels with a gain under 2 standard errors"
CONTROLS = "labels of merges with a random adapter"
"""Reasons why labels are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledMerge:
    """One merged module, and what it kept.

    Attributes
    ----------
    retention
        Ret in the members' order; None where there is no sound label.
    safe_sides
        Of each member, whether the merge is safe for it; None where a member has no sound label or no known gain G.
    """

    merge: Merge
    retention: tuple[float | None, ...]
    safe_sides: tuple[bool, ...] | None

    @property
    def is_safe(self) -> bool | None:
        """Whether the merge is safe for all; None where that is not known."""
        return None if self.safe_sides is None else all(self.safe_sides)


def labelled_merges(records: Records) -> tuple[list[LabelledMerge], Counter[str]]:
    """Return the merges of records in a fixed order, and how many labels were left out, by reason."""
    ceilings, left_out = Ceilings(records), Counter[str]()
    random_ones = {adapter.name for adapter in records.adapters if adapter.method == "random"}
    modules: dict[tuple[object, ...], list[Label]] = {}
    for label in records.labels:
        if label.action == "single":
            continue
        if not label.is_sound or not random_ones.isdisjoint(label.members):
            left_out[CONTROLS if label.is_sound else UNSOUND] += 1
            continue
        modules.setdefault(module_of(label), []).append(label)
    return [_labelled(found, ceilings) for found in modules.values()], left_out


def module_of(label: Label) -> tuple[object, ...]:
    """Return what tells the module of a label from every other."""
    hyper_parameters = tuple(sorted(label.hyper_parameters.items()))
    recipe = (label.operator, label.weights, label.pruned, label.norm, label.rank)
    return (label.members, *recipe, hyper_parameters, label.seed)


def _labelled(labels: Sequence[Label], ceilings: Ceilings) -> LabelledMerge:
    first = labels[0]
    kept = {label.adapter: label.retention.value for label in labels}
    retention = tuple(kept.get(name) for name in first.members)
    gains = [ceilings.normalised_gain(name) for name in first.members]
    return LabelledMerge(Merge(first.members, recipe_of(first)), retention, _safe_sides(retention, gains))


def recipe_of(label: Label) -> MergeRecipe:
    """Return the recipe of a label as a predictor sees it."""
    pruned: tuple[Mapping[str, float], ...] | None = None
    if label.pruned is not None:
        member, _, band = label.pruned.rpartition(":")
        pruned = tuple({band: 1.0} if name == member else {} for name in label.members)
    return MergeRecipe(label.operator, label.norm, label.rank, label.weights, pruned)


def _safe_sides(retention: Sequence[float | None], gains: Sequence[float]) -> tuple[bool, ...] | None:
    kept = [ret for ret in retention if ret is not None]
    is_known = len(kept) == len(retention) and all(map(math.isfinite, gains))
    return safe_sides(kept, gains) if is_known else None
