"""Trials on pairs: one learner is fitted once a split, and asked what its merges of two keep, at every rho."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from probe.bank.records import Records
from probe.evaluation.judged import Judged, Judgements
from probe.evaluation.splits import Split
from probe.predictors.conformal import ALL
from probe.predictors.cross_fit import MIN_LABELS
from probe.predictors.dataset import PairRows, pair_rows
from probe.predictors.design import Matrix
from probe.predictors.forecast import Forecast
from probe.predictors.known_features import Rhos
from probe.predictors.labelled_merges import LabelledMerge, labelled_merges
from probe.predictors.pair_model import PairForecasts, all_safe
from probe.predictors.schema import Schema

PairForecaster = Callable[[Matrix], PairForecasts]
PairLearner = Callable[["PairData", NDArray[np.bool_]], PairForecaster]
"""(the data, which rows may be seen) -> what forecasts rows of the same design."""


@dataclass(frozen=True)
class PairData:
    """Merges of two, and their rows.

    Attributes
    ----------
    merges
        All merges of the records; `PairRows.merge` is a position in them.
    """

    merges: Sequence[LabelledMerge]
    rows: PairRows
    schema: Schema

    @classmethod
    def of(cls, records: Records, schema: Schema) -> PairData:
        """Return the data of records."""
        return cls(labelled_merges(records)[0], pair_rows(records, schema), schema)

    def seen(self, split: Split) -> NDArray[np.bool_]:
        """Say which rows a split trains on."""
        rows = zip(self.rows.victim, self.rows.other, self.rows.operator, strict=True)
        return np.array([split.trains((victim, other), operator) for victim, other, operator in rows], dtype=np.bool_)

    def asked(self, split: Split, rho: float) -> Mapping[int, NDArray[np.int64]]:
        """Return merge -> its rows in the state that a split tests at `rho`; merges without that state are left out."""
        found = {}
        for number, states in self._states.items():
            merge = self.merges[number].merge
            if split.tests(merge.members, merge.recipe.operator):
                state = next((state for state in split.states(merge.members, rho) if state in states), None)
                if state is not None:
                    found[number] = states[state]
        return found

    @cached_property
    def _states(self) -> Mapping[int, Mapping[Rhos, NDArray[np.int64]]]:
        """Merge -> (rho of the first member, of the second) -> its rows."""
        rows = self.rows
        found: dict[int, dict[Rhos, list[int]]] = {}
        for row, (number, victim, one, other) in enumerate(
            zip(rows.merge, rows.victim, rows.rho_victim, rows.rho_other, strict=True)
        ):
            is_first = self.merges[number].merge.members[0] == victim
            state = (float(one), float(other)) if is_first else (float(other), float(one))
            found.setdefault(int(number), {}).setdefault(state, []).append(row)
        return {
            number: {state: np.array(own, dtype=np.int64) for state, own in states.items()}
            for number, states in found.items()
        }


def try_pairs(
    data: PairData,
    learner: PairLearner,
    splits: Sequence[Split],
    rhos: Sequence[float],
    on_split: Callable[[], None] = lambda: None,
    taught: PairData | None = None,
) -> dict[float, Judgements]:
    """Return rho -> what a learner forecast of the pairs that each split tests.

    A split with fewer labels to learn from than `MIN_LABELS`, or without a merge of known safety, tests nothing.

    Parameters
    ----------
    taught
        What is learnt from, where it is not the data that are tested.
    """
    taught = data if taught is None else taught
    judged: dict[float, list[Judged]] = {rho: [] for rho in rhos}
    for split in splits:
        seen = taught.seen(split)
        asked = {rho: data.asked(split, rho) for rho in rhos}
        has_safe = np.isfinite(taught.rows.is_side_safe[seen]).any()
        if has_safe and len(np.unique(taught.rows.label[seen])) >= MIN_LABELS and any(asked.values()):
            model = learner(taught, seen)
            for rho, merges in asked.items():
                judged[rho] += _judged(data, merges, model, split)
        on_split()
    return {rho: Judgements(tuple(rows)) for rho, rows in judged.items()}


def _judged(
    data: PairData, asked: Mapping[int, NDArray[np.int64]], model: PairForecaster, split: Split
) -> Iterator[Judged]:
    if not asked:
        return
    order = np.concatenate(list(asked.values()))
    found = model(data.rows.design[order])
    place = {int(row): index for index, row in enumerate(order)}
    for number, rows in asked.items():
        labelled = data.merges[number]
        kept = {str(data.rows.victim[row]): float(found.retention[place[int(row)]]) for row in rows}
        margin = float(all_safe(np.array([found.margin[place[int(row)]] for row in rows])))
        yield Judged(labelled, _forecast(labelled.merge.members, kept, margin), split.stratum)


def _forecast(members: tuple[str, ...], kept: Mapping[str, float], margin: float) -> Forecast:
    """Return a forecast without bounds; NaN for a member that was not asked, because nothing was measured of it."""
    retention = tuple(kept.get(name, math.nan) for name in members)
    return Forecast(
        members=members,
        retention=retention,
        lower_bound=(-math.inf,) * len(members),
        macro=float(np.mean(retention)),
        worst=float(np.min(retention)),
        worst_lower_bound=-math.inf,
        safe_probability=float(expit(margin)),
        group=ALL,
        num_labels=0,
    )
