"""An early forecast as JSON: what `mergeprobe forecast --json` prints and `POST /bank/forecast` answers, key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from probe.bank.report.statistics import Estimate
from probe.explanation import layers_in_words
from probe.forecasting import sentences
from probe.forecasting.advice import Advice, Effect, advice, settings_of
from probe.forecasting.comparison import Comparison
from probe.forecasting.early_forecast import EarlyForecast, PartnerForecast, RecipeForecast, forecast
from probe.forecasting.seen_adapter import SeenAdapter
from probe.predictors.forecast import MergeRecipe
from probe.predictors.predictor import Predictor
from router.bank_state import Settings
from router.forecasts import bounded
from router.records import Adapter
from serve.early.action import EarlyAction, Mutual, Standing, early_action


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rests on: a predictor, the policy's settings, and what the records say of trainings."""

    predictor: Predictor
    settings: Settings
    effects: Sequence[Effect] = field(default=())


def answer(
    candidate: SeenAdapter,
    comparison: Comparison,
    basis: Basis,
    mutual: Mutual,
    standing: Standing = Standing(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Return all that is forecast of an adapter.

    Parameters
    ----------
    comparison
        Of the candidate.
    mutual
        See `serve.early.action.early_action`.
    """
    settings = basis.settings
    recipes = [MergeRecipe(operator, norm) for operator, norm in settings.recipes]
    found = forecast(comparison, basis.predictor, recipes, settings.output_ranks)
    own = comparison.adapters[candidate.revision]
    adapter = Adapter(own.name, candidate.revision, "", own.rank, 0, domain=candidate.domain)
    action = early_action(adapter, comparison, basis.predictor, settings, mutual, standing)
    changes = advice(basis.effects, settings_of(candidate.now.metadata, own.modules))
    return {
        "adapter": {
            "name": own.name,
            "revision": candidate.revision,
            "domain": candidate.domain,
            "rank": own.rank,
            "rho": found.rho,
            "checkpoints": [state.rho for state in candidate.states],
        },
        "target_retention": settings.target_retention,
        "predicted_gain": _number(found.gain),
        "action": _action(action, {revision: one.name for revision, one in comparison.adapters.items()}),
        "most_conflicting": found.most_conflicting.name,
        "partners": [_partner(found, partner) for partner in found.partners],
        "left_out": dict(found.left_out),
        "advice": [_advice(one) for one in changes],
        "sentences": [
            f"{action.reason}.",
            *_warnings(action, settings.target_retention),
            sentences.of_most_conflicting(found),
            sentences.of_gain(found),
            *map(sentences.of_advice, changes),
            sentences.of_knowledge(found),
        ],
    }


def _warnings(action: EarlyAction, target: float) -> list[str]:
    if action.is_bounded:
        return []
    return [f"No bound promises the {target:.2f} that is asked: only a measurement can show that this merge keeps it."]


def _action(found: EarlyAction, names: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"action": str(found.action), "reason": found.reason}
    group = found.group
    if group is None:
        return told | {"members": [], "needs_measuring": False}
    recipe = group.recipe
    return told | {
        "members": sorted(names[member] for member in group.members),
        # The forecast proposes, a measurement decides: here the bound alone would not even propose.
        "needs_measuring": not found.is_bounded,
        "operator": recipe.operator,
        "norm": recipe.norm,
        "rank": recipe.rank,
        "weights": {names[one]: weight for one, weight in zip(recipe.members, recipe.weights, strict=True)},
        "pruned": [{"adapter": names[recipe.members[part.member]], "module": part.module} for part in recipe.pruned],
        "retention": {names[one]: kept for one, kept in group.retention.items()},
        "lower_bound": {names[one]: bounded(bound) for one, bound in group.lower_bound.items()},
    }


def _partner(found: EarlyForecast, partner: PartnerForecast) -> dict[str, Any]:
    return {
        "adapter": partner.name,
        "signals": partner.signals,
        **_recipe(partner.best),
        "conflict": {
            "layers": list(partner.conflict.layers),
            "where": layers_in_words(partner.conflict.layers) if partner.conflict.layers else None,
            "is_fisher_weighted": partner.conflict.is_measured,
            "sentence": partner.conflict.sentence,
        },
        "sentence": sentences.of_partner(found, partner),
        "recipes": [_recipe(one) for one in partner.recipes],
    }


def _recipe(one: RecipeForecast) -> dict[str, Any]:
    return {
        "operator": one.recipe.operator,
        "norm": one.recipe.norm,
        "retention": one.retention,
        "lower_bound": bounded(one.lower_bound),
        "other_retention": one.other_retention,
        "other_lower_bound": bounded(one.other_lower_bound),
        "safe_probability": one.safe_probability,
        "num_labels": one.num_labels,
    }


def _advice(one: Advice) -> dict[str, Any]:
    return {
        "setting": one.setting,
        "change": one.change,
        "retention": _estimate(one.retention),
        "gain": _estimate(one.gain),
        "num_merges": one.num_merges,
        "sentence": sentences.of_advice(one),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "value": _number(one.value),
        "low": bounded(one.low),
        "high": bounded(one.high),
        "n": one.n,
        "unit": one.unit,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
