"""Fit the set model and measure its errors, on forecasts of pairs that no pair model behind them was fitted on.

A set is forecast by a set model that was fitted without any merge of the fold of the set's newcomer; the forecasts of
its pairs come from models that saw neither adapter of the pair (`probe.predictors.cross_fit`). So errors of sets are
those of a cold start, but that the set model, which sees of an adapter a few columns, may know the others from other
sets. There are too few sets to leave out those of all five members.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.predictors.compared import Compared, HeldOut
from probe.predictors.cross_fit import CrossFit, FoldPair
from probe.predictors.dataset import SetRow
from probe.predictors.design import Side, blanked, design, sides_of
from probe.predictors.forecast import Merge
from probe.predictors.options import FitOptions
from probe.predictors.pair_model import PairModel
from probe.predictors.schema import SIGNALS, Missing, Schema
from probe.predictors.set_inputs import PairMatrix, Question, SetReader
from probe.predictors.set_model import SetModel, without_labels
from probe.predictors.set_training import SetTargets, fit_set_model
from probe.predictors.views import COLD_START, View, view_of
from probe.progress import OnProgress
from probe.vectors import Vector

CHUNK = 2048
"""Rows of the design that are held at once."""

Place = tuple[int, int, int]
"""Question, victim, other."""


@dataclass(frozen=True, slots=True, eq=False)
class SetFit:
    """The set model, fitted to everything, and what models without the newcomers forecast."""

    model: SetModel
    held_out: Mapping[View, HeldOut]
    num_merges: int


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One set row seen with some signals: what is asked, and what was measured."""

    row: SetRow
    view: View
    question: Question


def fit_sets(
    rows: Sequence[SetRow], pairs: CrossFit, schema: Schema, options: FitOptions, on_progress: OnProgress
) -> SetFit:
    """Fit the set model to everything, and without each fold, and forecast every set without its newcomer."""
    asked, reader = _asked(rows, pairs, schema), SetReader(schema)
    if not asked:
        return SetFit(without_labels(reader), {}, 0)
    inputs, targets = reader([one.question for one in asked]), _targets(asked)
    newcomers = np.array([pairs.folds[one.row.newcomer] for one in asked])
    has_fold = [{pairs.folds[name] for name in one.row.merge.members} for one in asked]
    held_out: list[tuple[_Asked, Vector, float]] = []
    held = sorted(set(newcomers.tolist()))
    for done, fold in enumerate(held):
        on_progress("set models without folds", done, len(held))
        seen = np.flatnonzero([fold not in folds for folds in has_fold])
        model = fit_set_model(inputs.take(seen), targets.take(seen), reader, options.huber_slope, options.seed)
        tested = np.flatnonzero(newcomers == fold)
        found = model.forecast(inputs.take(tested), [asked[place].question.pairs for place in tested])
        held_out += zip((asked[place] for place in tested), found.retention, found.margin.tolist(), strict=True)
    on_progress("set models without folds", len(held), len(held))
    final = fit_set_model(inputs, targets, reader, options.huber_slope, options.seed)
    return SetFit(final, _by_view(held_out), len({row.label for row in rows}))


def _asked(rows: Sequence[SetRow], pairs: CrossFit, schema: Schema) -> list[_Asked]:
    """Return every row with all signals that were measured, and with every choice of less."""
    found: list[_Asked] = []
    for missing, matrices in _out_of_fold(rows, pairs, schema).items():
        for row, matrix in zip(rows, matrices, strict=True):
            # A model for each pair, or the set says nothing.
            is_complete = np.isfinite(matrix.retention).sum() == len(row.rhos) * (len(row.rhos) - 1)
            if row.missing <= missing and is_complete:
                view = view_of(row.rhos, COLD_START, missing)
                found.append(_Asked(row, view, Question(row.merge, row.evidence, missing, matrix)))
    return found


def _out_of_fold(rows: Sequence[SetRow], pairs: CrossFit, schema: Schema) -> dict[Missing, list[PairMatrix]]:
    """Forecast all ordered pairs of every row, each by a model that saw neither, for every choice of signals."""
    sizes = [len(row.merge.members) for row in rows]
    found = {key: [PairMatrix(*np.full((2, size, size), math.nan)) for size in sizes] for key in SIGNALS.values()}
    by_model: dict[FoldPair, list[tuple[Place, Side]]] = {}
    for number, row in enumerate(rows):
        folds = [pairs.folds[name] for name in row.merge.members]
        for (i, j), side in sides_of(row.merge, row.evidence):
            low, high = sorted((folds[i], folds[j]))
            by_model.setdefault((low, high), []).append(((number, i, j), side))
    for key, sides in by_model.items():
        for start in range(0, len(sides) if key in pairs.models else 0, CHUNK):
            _fill(found, sides[start : start + CHUNK], pairs.models[key], schema)
    return found


def _fill(
    found: Mapping[Missing, Sequence[PairMatrix]],
    sides: Sequence[tuple[Place, Side]],
    model: PairModel,
    schema: Schema,
) -> None:
    rows = design(schema, [side for _, side in sides])
    for missing, matrices in found.items():
        forecasts = model(blanked(rows, schema, missing))
        for place, ((number, i, j), _) in enumerate(sides):
            matrices[number].retention[i, j] = forecasts.retention[place]
            matrices[number].margin[i, j] = forecasts.margin[place]


def _targets(asked: Sequence[_Asked]) -> SetTargets:
    counts = Counter(one.row.label for one in asked)
    return SetTargets(
        macro=np.array([np.mean(one.row.retention) for one in asked]),
        worst=np.array([min(one.row.retention) for one in asked]),
        is_safe=np.array([_as_number(one.row.is_safe) for one in asked]),
        weight=np.array([1 / counts[one.row.label] for one in asked]),
    )


def _as_number(is_safe: bool | None) -> float:
    return math.nan if is_safe is None else float(is_safe)


def _by_view(found: Sequence[tuple[_Asked, Vector, float]]) -> dict[View, HeldOut]:
    views: dict[View, list[tuple[_Asked, Vector, float]]] = {}
    for one in found:
        views.setdefault(one[0].view, []).append(one)
    return {view: _held_out(own) for view, own in views.items()}


def _held_out(found: Sequence[tuple[_Asked, Vector, float]]) -> HeldOut:
    merges = [asked.row.merge for asked, _, _ in found]
    is_safe = np.array([_as_number(asked.row.is_safe) for asked, _, _ in found])
    is_known: NDArray[np.bool_] = np.isfinite(is_safe)
    return HeldOut(
        member=_compared(
            [retention for _, retention, _ in found],
            [asked.row.retention for asked, _, _ in found],
            [merge for merge in merges for _ in merge.members],
        ),
        worst=_compared(
            [[retention.min()] for _, retention, _ in found],
            [[min(asked.row.retention)] for asked, _, _ in found],
            merges,
        ),
        margin=np.array([margin for _, _, margin in found])[is_known],
        is_safe=is_safe[is_known],
    )


def _compared(
    forecast: Sequence[Sequence[float] | Vector], measured: Sequence[Sequence[float]], merges: Sequence[Merge]
) -> Compared:
    return Compared(
        forecast=np.concatenate(forecast),
        measured=np.concatenate(measured),
        actions=[merge.recipe.action for merge in merges],
        operators=[merge.recipe.operator for merge in merges],
        members=[merge.members for merge in merges],
    )
