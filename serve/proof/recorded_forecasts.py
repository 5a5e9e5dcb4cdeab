"""Forecasts of a recorded bank: a predictor that never saw it, over the features that were recorded of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from probe.predictors.forecast import AdapterEvidence, Evidence, Merge, MergeRecipe
from probe.predictors.known_features import FINAL, KnownFeatures
from probe.predictors.predictor import Predictor
from probe.vectors import PairFeatures
from router.forecasts import ConflictPart, GroupForecast
from router.records import Recipe
from serve.proof.recorded_bank import ProofError, RecordedBank

COSINE = "symmetric:cosine/all/mean"
"""Column of the recorded pairs: mean Frobenius cosine of the updates over layers."""


class RecordedForecasts:
    """`router.forecasts.Forecasts` of every group that was measured; of other recipes nothing is known.

    Raises
    ------
    ProofError
        The predictor was fitted on an adapter of the bank, or the records lack features.
    """

    def __init__(self, bank: RecordedBank, predictor: Predictor) -> None:
        seen = sorted(one.name for one in bank.records.adapters if one.revision in predictor.card.revisions)
        if seen:
            raise ProofError(
                f"The predictor was fitted on {', '.join(seen)}; a proof needs adapters that it has never seen: name "
                "another predictor, or other records."
            )
        merges = [Merge(one.members, MergeRecipe(one.operator, one.norm, one.rank)) for one in bank.groups]
        answers = predictor.forecast(merges, _evidence(bank))
        self._known = {
            recipe: GroupForecast(
                dict(zip(recipe.members, answer.retention, strict=True)),
                dict(zip(recipe.members, answer.lower_bound, strict=True)),
                answer.safe_probability,
            )
            for recipe, answer in zip(bank.groups, answers, strict=True)
        }
        self._near = _neighbours(bank.free, self._known)

    def version(self, revision: str) -> str:
        """Return the same token always: records do not change."""
        return f"recorded {revision}"

    def neighbours(self, revision: str) -> Sequence[str]:
        """Return the others, those first that it is predicted to share a module with best."""
        return self._near.get(revision, ())

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return what is forecast of recipes that were measured; None for every other."""
        return [self._known.get(recipe) for recipe in recipes]

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:  # noqa: ARG002 - of the protocol
        """Return nothing: merges without a part were not measured."""
        return ()


def _evidence(bank: RecordedBank) -> Evidence:
    """Return what was recorded of the finished members of all groups."""
    features = KnownFeatures(bank.records)
    adapters: dict[str, AdapterEvidence] = {}
    pairs: dict[tuple[str, str], PairFeatures] = {}
    for members in dict.fromkeys(recipe.members for recipe in bank.groups):
        known = features.evidence(members, (FINAL,) * len(members))
        if known is None:
            raise ProofError(
                f"The records hold no features of {' + '.join(members)}; label the bank with its features."
            )
        adapters.update(known.adapters)
        pairs.update(known.pairs)
    return Evidence(adapters, pairs)


def cosines(bank: RecordedBank) -> dict[frozenset[str], float]:
    """Return pair -> cosine of the two finished updates; NaN where it was not recorded."""
    known = {
        frozenset(row.names): row.values[COSINE]
        for row in bank.records.pair_features
        if set(row.rhos) == {FINAL} and COSINE in row.values
    }
    return {frozenset(pair): known.get(frozenset(pair), math.nan) for pair in combinations(bank.free, 2)}


def _neighbours(free: Sequence[str], known: dict[Recipe, GroupForecast]) -> dict[str, list[str]]:
    worst: dict[frozenset[str], float] = {}
    for recipe, forecast in known.items():
        pair = frozenset(recipe.members)
        worst[pair] = max(worst.get(pair, -math.inf), min(forecast.retention.values()))
    return {
        one: sorted(
            (other for other in free if other != one),
            key=lambda other, one=one: (-worst.get(frozenset((one, other)), -math.inf), other),  # type: ignore[misc]
        )
        for one in free
    }
