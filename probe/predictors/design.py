"""Rows of the design: what the pair model sees of one member beside another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.layers import BANDS
from probe.predictors.forecast import AdapterEvidence, Evidence, EvidenceMissing, Merge, MergeRecipe, SchemaMismatch
from probe.predictors.schema import Missing, Schema
from probe.vectors import Features, PairFeatures, Vector, pair_vector

Matrix = NDArray[np.float32]

NOTHING: Mapping[str, float] = {}
STRENGTHS: Mapping[str, float] = {"none": 1.0, "ta": 1.0, "mean_source": 2**-0.5}
"""Norm rule -> what each of two unrelated updates of one length counts in their merge."""
AVERAGE, AVERAGED = "mean", 0.5
"""The operator that counts each by half where no rule sets the length, and that half."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One member of a merge, the victim, beside one other, and the recipe of the two alone.

    Attributes
    ----------
    pair
        `forth` is what the victim does to the other.
    recipe
        Weights and pruned shares are those of the victim and of the other.
    """

    victim: AdapterEvidence
    other: AdapterEvidence
    pair: PairFeatures
    recipe: MergeRecipe


def sides_of(merge: Merge, evidence: Evidence) -> Iterator[tuple[tuple[int, int], Side]]:
    """Yield every ordered pair of a merge: positions of victim and other, and what is known of them.

    Raises
    ------
    EvidenceMissing
        The evidence lacks a member, or a pair of members.
    """
    for i, victim in enumerate(merge.members):
        for j, other in enumerate(merge.members):
            if i != j:
                yield (i, j), side_of(merge, evidence, i, j, (victim, other))


def side_of(merge: Merge, evidence: Evidence, i: int, j: int, names: tuple[str, str]) -> Side:
    """Return member i beside member j."""
    unknown = [name for name in names if name not in evidence.adapters]
    if unknown:
        raise EvidenceMissing(
            f"Nothing is known of {unknown[0]!r}, a member of {merge.members}; measure its signals first."
        )
    victim, other = (evidence.adapters[name] for name in names)
    return Side(victim, other, oriented(evidence.pairs, *names), _recipe_of(merge.recipe, i, j))


def oriented(pairs: Mapping[tuple[str, str], PairFeatures], victim: str, other: str) -> PairFeatures:
    """Return the features of a pair with the victim as the first, whichever way they were measured.

    Raises
    ------
    EvidenceMissing
        The pair was measured neither way.
    """
    if (victim, other) in pairs:
        return pairs[victim, other]
    if (other, victim) not in pairs:
        raise EvidenceMissing(f"{victim!r} and {other!r} were not compared; measure the signals of the pair first.")
    found = pairs[other, victim]
    return PairFeatures(forth=found.back, back=found.forth, symmetric=found.symmetric)


def _recipe_of(recipe: MergeRecipe, i: int, j: int) -> MergeRecipe:
    weights, pruned = recipe.weights, recipe.pruned
    return MergeRecipe(
        operator=recipe.operator,
        norm=recipe.norm,
        rank=recipe.rank,
        weights=None if weights is None else (weights[i], weights[j]),
        pruned=None if pruned is None else (pruned[i], pruned[j]),
    )


def design(schema: Schema, sides: Sequence[Side]) -> Matrix:
    """Return the rows (sides, columns) in the order of `Schema.columns`; NaN where unknown.

    Raises
    ------
    SchemaMismatch
        Features have another number of columns than the schema.
    """
    blank = schema.is_blank(frozenset())
    if not sides:
        return np.empty((0, len(blank)), dtype=np.float32)
    rows = pair_vector(
        _stacked([side.victim.values for side in sides], len(schema.adapter), "an adapter"),
        _stacked([side.other.values for side in sides], len(schema.adapter), "an adapter"),
        PairFeatures(
            forth=_stacked([side.pair.forth.values for side in sides], len(schema.directed), "a direction of a pair"),
            back=_stacked([side.pair.back.values for side in sides], len(schema.directed), "a direction of a pair"),
            symmetric=_stacked([side.pair.symmetric.values for side in sides], len(schema.symmetric), "a pair"),
        ),
    )
    found = np.concatenate([rows, [_recipe_values(schema, side) for side in sides]], axis=1, dtype=np.float32)
    # What overflowed says no more than what is unknown.
    found[:, blank] = found[np.isinf(found)] = math.nan
    return found


def _stacked(rows: Sequence[Vector], width: int, what: str) -> Features:
    wrong = next((len(row) for row in rows if len(row) != width), None)
    if wrong is not None:
        raise SchemaMismatch(
            f"Got {wrong} features of {what}, but the predictor reads {width}; "
            "measure the features with the version that it was fitted with, or fit it again."
        )
    # Rounded as records keep them, so that features read and features just measured are forecast alike.
    return Features(np.asarray(rows, dtype=np.float32).astype(np.float64), {})


def blanked(design: Matrix, schema: Schema, missing: Missing) -> Matrix:
    """Return a copy of rows without what needs something that is missing."""
    found = design.copy()
    found[:, schema.is_blank(missing)] = math.nan
    return found


def missing_of(schema: Schema, evidence: Evidence) -> Missing:
    """Return what was not measured of any adapter or pair of the evidence."""
    adapters = np.array([one.values for one in evidence.adapters.values()])
    pairs = np.array([pair_values(pair) for pair in evidence.pairs.values()])
    found = schema.missing_of_adapters(adapters) + schema.missing_of_pairs(pairs)
    return frozenset[str]().union(*found)


def pair_values(pair: PairFeatures) -> Vector:
    """Return both directions of a pair and what is symmetric, end to end."""
    return np.concatenate([pair.forth.values, pair.back.values, pair.symmetric.values])


def _recipe_values(schema: Schema, side: Side) -> list[float]:
    recipe = side.recipe
    norm = recipe.norm or schema.operators.get(recipe.operator)
    ranks = [float(one.values[schema.rank_position]) for one in (side.victim, side.other)]
    weights = recipe.weights or (1.0, 1.0)
    return [
        *(float(recipe.operator == operator) for operator in schema.operators),
        *(float(norm == known) for known in schema.norms),
        *(_log_ratio(recipe.rank, whole) for whole in (max(ranks), sum(ranks))),
        *(weight / sum(weights) for weight in weights),
        *(shares.get(band, 0.0) for shares in recipe.pruned or (NOTHING, NOTHING) for band in BANDS),
        *(one.rho for one in (side.victim, side.other)),
        _kept(schema, side.pair.back, _strength(recipe.operator, norm)),
    ]


def _strength(operator: str, norm: str | None) -> float:
    """Return what each of two members counts; NaN where the rule is not known."""
    return AVERAGED if (operator, norm) == (AVERAGE, "none") else STRENGTHS.get(norm or "", math.nan)


def _kept(schema: Schema, other: Features, strength: float) -> float:
    """Return the share of its gain, in loss, that the victim keeps beside the other, each counting by a strength.

    It is measured at strengths 1 and 1/2; a straight line lies between.
    """
    whole, halved = (float(other.values[place]) for place in schema.kept_positions)
    return halved + (strength - AVERAGED) / (1 - AVERAGED) * (whole - halved)


def _log_ratio(rank: int | None, whole: float) -> float:
    """Return log2 of an output rank over ranks of members; NaN where either is unknown."""
    return math.log2(rank / whole) if rank and whole > 0 else math.nan
