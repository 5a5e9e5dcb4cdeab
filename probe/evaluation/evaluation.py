"""Everything that is fitted for an evaluation, and what it forecast: the sections of the report are functions of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from probe.bank.records import Records
from probe.evaluation.judged import Judgements
from probe.evaluation.pair_learners import PAIR_LEARNERS, learned
from probe.evaluation.pair_trials import PairData, PairLearner, try_pairs
from probe.evaluation.predictor_trials import PredictorData, Tried, try_predictors
from probe.evaluation.settings import EARLY, LESSONS, Settings
from probe.evaluation.splits import (
    Regime,
    Split,
    as_groups,
    cold_start,
    leave_domain_out,
    leave_operator_out,
    leave_out,
    together,
)
from probe.predictors.dataset import schema_of
from probe.predictors.folds import adapter_folds
from probe.predictors.known_features import FINAL, KnownFeatures
from probe.predictors.options import FitOptions
from probe.progress import OnProgress, silent
from probe.signals import Family

PAIR_COST, PREDICTOR_COST = 1, 6
"""What one fit of a pair model, and of a predictor, takes, one beside the other."""


@dataclass(frozen=True, slots=True)
class Spent:
    """How long something took to fit: `num_fits` of them, in seconds."""

    kind: str
    num_fits: int
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """What every learner forecast of merges that it had not seen.

    Attributes
    ----------
    rhos
        Shares of training that were tested, ascending.
    rho
        The one at which everything but the regimes is judged: `EARLY`, or the end where nothing is known earlier.
    pairs
        (regime, learner of `PAIR_LEARNERS`) -> rho -> forecasts of pairs.
    predictors
        Regime -> forecasts of whole predictors, with bounds, of pairs and sets.
    ablations
        Row of `Settings.ablations` -> forecasts of predictors that read less, bank-aware, at `rho`.
    alone
        Family -> forecasts of pair models that read this family only, likewise.
    lessons
        Position in `LESSONS` -> (labels learnt from, forecasts of pair models), likewise.
    spent
        Time of each kind of fit.
    """

    records: Records
    settings: Settings
    rhos: tuple[float, ...]
    rho: float
    pairs: Mapping[tuple[Regime, str], Mapping[float, Judgements]]
    predictors: Mapping[Regime, Tried]
    ablations: Mapping[str, Tried]
    alone: Mapping[str, Judgements]
    lessons: Mapping[int, tuple[int, Judgements]]
    spent: tuple[Spent, ...]


def evaluate(
    records: Records,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    on_progress: OnProgress = silent,
    now: Callable[[], float] = time.monotonic,
) -> Evaluation:
    """Fit everything that an evaluation needs.

    Parameters
    ----------
    now
        Seconds, rising.

    Raises
    ------
    SchemaMismatch
        The records' features follow another schema version.
    """
    bench = _Bench(records, settings, on_progress, now)
    early, splits, groups = (bench.rho,), bench.splits, bench.group_splits
    pairs = {
        (regime, name): bench.pairs(name, regime, row.learner(settings.headline), splits[regime], bench.rhos)
        for regime in Regime
        for name, row in PAIR_LEARNERS.items()
    }
    predictors = {
        regime: bench.predictors("predictors", regime, settings.repeated, bench.predictor_splits(regime), bench.rhos)
        for regime in Regime
    }
    ablations = {
        name: bench.predictors("predictors of Table 3", name, _reading(settings, families), groups, early)
        for name, families in settings.ablations.items()
    }
    alone = {
        str(family): bench.pairs(
            "one family alone", str(family), learned(_reading(settings, frozenset({family}))), groups, early
        )[bench.rho]
        for family in settings.families
    }
    lessons = {number: bench.lesson(number) for number in range(len(LESSONS))}
    return Evaluation(
        records, settings, bench.rhos, bench.rho, pairs, predictors, ablations, alone, lessons, tuple(bench.spent)
    )


class _Bench:
    """Data and splits, and the count of what is done."""

    def __init__(self, records: Records, settings: Settings, on_progress: OnProgress, now: Callable[[], float]) -> None:
        self._records, self._settings, self._on_progress, self._now = records, settings, on_progress, now
        self.rhos = _known(records, settings.rhos)
        self.rho = EARLY if EARLY in self.rhos else FINAL
        self.splits = _splits(records, settings)
        self.group_splits = leave_out(_groups(records, settings.num_groups))
        self.spent: list[Spent] = []
        self._schema = schema_of(records)
        self._pair_data = PairData.of(records, self._schema)
        self._data = PredictorData(records, self._pair_data.merges, KnownFeatures(records))
        self._done, self._total = 0, self._planned()

    def predictor_splits(self, regime: Regime) -> tuple[Split, ...]:
        """Return the splits that whole predictors are fitted to: groups where pair models leave out one adapter."""
        if regime is Regime.BANK_AWARE:
            return self.group_splits
        return self.splits[regime]

    def pairs(
        self,
        kind: str,
        which: str,
        learner: PairLearner,
        splits: Sequence[Split],
        rhos: Sequence[float],
        taught: PairData | None = None,
    ) -> Mapping[float, Judgements]:
        """Fit a pair learner to every split."""
        started = self._now()
        told = f"{kind}, {which}"
        found = try_pairs(self._pair_data, learner, splits, rhos, lambda: self._step(told, PAIR_COST), taught)
        self.spent.append(Spent(kind, len(splits), self._now() - started))
        return found

    def predictors(
        self, kind: str, which: str, options: FitOptions, splits: Sequence[Split], rhos: Sequence[float]
    ) -> Tried:
        """Fit a predictor to every split."""
        started = self._now()
        told = f"{kind}, {which}"
        found = try_predictors(self._data, options, splits, rhos, lambda: self._step(told, PREDICTOR_COST))
        self.spent.append(Spent(kind, len(splits), self._now() - started))
        return found

    def lesson(self, number: int) -> tuple[int, Judgements]:
        """Fit pair models to other labels; return how many those are, and what was forecast."""
        one = LESSONS[number]
        taught = PairData.of(one.teach(self._records), self._schema)
        learner = learned(self._settings.repeated)
        found = self.pairs("lessons", f"{one.kind} {one.amount:g}", learner, self.group_splits, (self.rho,), taught)
        return taught.rows.num_labels, found[self.rho]

    def _step(self, name: str, cost: int) -> None:
        self._done += cost
        self._on_progress(name, self._done, self._total)

    def _planned(self) -> int:
        num_pair_fits = len(PAIR_LEARNERS) * sum(map(len, self.splits.values()))
        num_pair_fits += (len(self._settings.families) + len(LESSONS)) * len(self.group_splits)
        num_predictors = sum(len(self.predictor_splits(regime)) for regime in Regime)
        num_predictors += len(self._settings.ablations) * len(self.group_splits)
        return PAIR_COST * num_pair_fits + PREDICTOR_COST * num_predictors


def _reading(settings: Settings, families: frozenset[Family]) -> FitOptions:
    return replace(settings.repeated, families=families)


def _known(records: Records, rhos: Sequence[float]) -> tuple[float, ...]:
    """Return the shares of training at which the records know adapters, of those asked."""
    known = {rho for row in records.adapter_features for rho in row.rhos}
    return tuple(sorted(known.intersection(rhos)))


def _groups(records: Records, number: int) -> tuple[frozenset[str], ...]:
    return as_groups(adapter_folds(records.adapters, number, seed=0))


def _splits(records: Records, settings: Settings) -> dict[Regime, tuple[Split, ...]]:
    """Return the splits of every regime; operators are those that pairs were merged by."""
    merged = [label for label in records.labels if len(label.members) == 2]
    return {
        Regime.BANK_AWARE: leave_out(together(records.adapters)),
        Regime.COLD_START: cold_start(_groups(records, settings.num_cold_groups)),
        Regime.DOMAIN: leave_domain_out({adapter.name: adapter.domain for adapter in records.adapters}),
        Regime.OPERATOR: leave_operator_out(label.operator for label in merged),
    }
