"""Where two adapters conflict, in one sentence: by the damage under each other's Fisher, else by the weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.damage import layers_of_most
from probe.explanation import explain, layers_in_words
from probe.signals import Pair
from probe.vectors import Vector


@dataclass(frozen=True, slots=True)
class Conflict:
    """Where a pair conflicts.

    Attributes
    ----------
    layers
        Ascending; empty where no part of the depth stands out, or nothing shows a conflict.
    is_measured
        Whether it is Fisher-weighted, on rows of both; else a signal of the weights shows it, which is weaker.
    sentence
        The same in words, such as ``conflict mostly in layers 20-29``.
    """

    layers: tuple[int, ...]
    is_measured: bool
    sentence: str


def conflict_of(forth: Pair, damage: tuple[Vector, Vector]) -> Conflict:
    """Say where a pair conflicts.

    Parameters
    ----------
    forth
        The pair, either way round: what is read off the weights is the same both ways.
    damage
        Of the first on the second, and back (`probe.damage.fisher_damage`); empty where it was not measured.
    """
    known = [one for one in damage if len(one)]
    if known:
        layers = layers_of_most(np.sum(known, axis=0))
        where = f"mostly in {layers_in_words(layers)}" if layers else "spread over all layers"
        return Conflict(layers, True, f"conflict {where}")
    finding = explain(forth)[0]
    if not finding.is_conflict:
        return Conflict((), False, "the weights alone show no conflict")
    where = f" in {layers_in_words(finding.layers)}" if finding.layers else ""
    return Conflict(finding.layers, False, f"the weights show {finding.mechanism}{where}")
