"""The forecast of an adapter beside each known one: what both would keep under plain merges, with bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from probe.bank.labelling.measurement import NORMS
from probe.bank.labelling.plan import LabelPlan
from probe.forecasting.comparison import Comparison
from probe.forecasting.conflict import Conflict
from probe.operators import OUTPUT_RANKS, joint_rank
from probe.predictors.design import missing_of
from probe.predictors.forecast import Evidence, Forecast, Merge, MergeRecipe
from probe.predictors.predictor import Predictor
from probe.predictors.views import signals_of

PLAIN_RECIPES = tuple(MergeRecipe(operator, NORMS.get(operator)) for operator in LabelPlan().fixed_operators)
"""What every pair of a bank is measured under."""
WEIGHTS_ONLY = ("no calibration", "weights only")
"""Of `probe.predictors.schema.SIGNALS`: no rows were run through the base."""


@dataclass(frozen=True, slots=True)
class RecipeForecast:
    """One plain merge of a pair.

    Attributes
    ----------
    retention, lower_bound
        Of the candidate.
    other_retention, other_lower_bound
        Of the known adapter. Bounds are -inf where too few labels bound the error.
    safe_probability
        0..1.
    num_labels
        Labels that the bound rests on.
    """

    recipe: MergeRecipe
    retention: float
    lower_bound: float
    other_retention: float
    other_lower_bound: float
    safe_probability: float
    num_labels: int

    @property
    def worst(self) -> float:
        """What the one that suffers more is predicted to keep."""
        return min(self.retention, self.other_retention)

    @property
    def worst_lower_bound(self) -> float:
        """The lower one of both bounds."""
        return min(self.lower_bound, self.other_lower_bound)


@dataclass(frozen=True, slots=True)
class PartnerForecast:
    """An adapter beside one known adapter.

    Attributes
    ----------
    revision, name
        Of the known one.
    signals
        What was measured of both, a key of `probe.predictors.schema.SIGNALS`: the less, the wider the bound.
    recipes
        The plain merges; `best` comes closest to passing.
    """

    revision: str
    name: str
    signals: str
    recipes: tuple[RecipeForecast, ...]
    conflict: Conflict

    @property
    def best(self) -> RecipeForecast:
        """The recipe under which the worse one of both keeps most, by its bound, then by the point forecast."""
        return max(self.recipes, key=lambda one: (one.worst_lower_bound, one.worst))


@dataclass(frozen=True, slots=True)
class EarlyForecast:
    """What is predicted of an adapter.

    Attributes
    ----------
    revision, name, rho
        Of the adapter as it is now, and the share of training that it has seen.
    gain
        Predicted G of Eq. 1, at the end of training; NaN where the predictor knows no gains.
    partners
        Those first with which both keep most.
    left_out
        Name of a known adapter -> why it is none.
    """

    revision: str
    name: str
    rho: float
    gain: float
    partners: tuple[PartnerForecast, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def most_conflicting(self) -> PartnerForecast:
        """The partner beside which the worse one of both is predicted to keep least."""
        return min(self.partners, key=lambda one: one.best.worst)

    @property
    def reads_rows(self) -> bool:
        """Whether rows were run through the base model for any partner."""
        return any(partner.signals not in WEIGHTS_ONLY for partner in self.partners)


def forecast(
    comparison: Comparison,
    predictor: Predictor,
    recipes: Sequence[MergeRecipe] = PLAIN_RECIPES,
    output_ranks: Sequence[int] = OUTPUT_RANKS,
) -> EarlyForecast:
    """Forecast an adapter beside each known one.

    Parameters
    ----------
    recipes
        Plain merges; their rank is the least of `output_ranks` that holds both members, or the largest.

    Raises
    ------
    SchemaMismatch
        The predictor reads other columns than this version measures.
    """
    candidate, evidence = comparison.candidate, comparison.evidence
    merges = [
        Merge((candidate, other), replace(recipe, rank=_rank(comparison, other, output_ranks)))
        for other in comparison.others
        for recipe in recipes
    ]
    answers = iter(predictor.forecast(merges, evidence))
    partners = [
        PartnerForecast(
            revision=other,
            name=comparison.adapters[other].name,
            signals=_signals(comparison, other, predictor),
            recipes=tuple(_told(recipe, next(answers)) for recipe in recipes),
            conflict=comparison.pairs[candidate, other].conflict,
        )
        for other in comparison.others
    ]
    own = comparison.adapters[candidate]
    return EarlyForecast(
        revision=candidate,
        name=own.name,
        rho=own.evidence.rho,
        gain=predictor.gain(own.evidence),
        partners=tuple(sorted(partners, key=_promise)),
        left_out=tuple(comparison.left_out.items()),
    )


def figures(found: EarlyForecast) -> dict[str, float]:
    """Return the numbers that a training's logger shows, by name; unbounded and unknown ones are left out.

    ``worst_retention`` and ``worst_lower_bound`` of a partner are of the one of both that suffers more.
    """
    told = {"predicted_gain": found.gain}
    for partner in found.partners:
        told[f"worst_retention/{partner.name}"] = partner.best.worst
        told[f"worst_lower_bound/{partner.name}"] = partner.best.worst_lower_bound
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _rank(comparison: Comparison, other: str, output_ranks: Sequence[int]) -> int:
    return joint_rank((comparison.adapters[one].rank for one in (comparison.candidate, other)), output_ranks)


def _signals(comparison: Comparison, other: str, predictor: Predictor) -> str:
    """Return what is known of both, by the columns that the predictor would read."""
    pair = comparison.candidate, other
    known = Evidence({one: comparison.adapters[one].evidence for one in pair}, {pair: comparison.pairs[pair].features})
    return signals_of(missing_of(predictor.artefact.schema, known))


def _told(recipe: MergeRecipe, found: Forecast) -> RecipeForecast:
    own, theirs = zip(found.retention, found.lower_bound, strict=True)
    return RecipeForecast(
        recipe=recipe,
        retention=own[0],
        lower_bound=own[1],
        other_retention=theirs[0],
        other_lower_bound=theirs[1],
        safe_probability=found.safe_probability,
        num_labels=found.num_labels,
    )


def _promise(partner: PartnerForecast) -> tuple[float, float, str]:
    return -partner.best.worst_lower_bound, -partner.best.worst, partner.name
