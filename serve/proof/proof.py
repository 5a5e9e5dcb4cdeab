"""The proof of one bank: every method's outcome, at one cost of a module and over many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from probe.bank.records import Records
from probe.bank.report.statistics import Estimate, Vector
from probe.plan_score import LAMBDA_COST, TARGET_RETENTION
from probe.predictors.predictor import Predictor
from router.bank_state import Settings
from serve.proof.contest import Contest, Outcome
from serve.proof.methods import (
    COSINE,
    MERGE_ALL,
    MERGEPROBE,
    ORACLE,
    RANDOM,
    cosine_plan,
    mergeprobe,
    methods,
    oracle,
    partitions,
    verified_at_random,
)
from serve.proof.recorded_bank import ProofError, RecordedBank
from serve.proof.recorded_forecasts import RecordedForecasts
from serve.proof.worth import Worth

LAMBDAS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Costs of a module, in units of one adapter's retention, that the retention-cost curve is drawn over."""


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes
    ----------
    outcomes
        Method -> what it comes to, at the settings' cost of a module.
    curves
        Method -> what it comes to at other costs: those of `LAMBDAS` where it heeds them, else at every number of
        modules.
    """

    contest: Contest
    worth: Worth
    outcomes: Mapping[str, Outcome]
    curves: Mapping[str, Sequence[Outcome]]

    @cached_property
    def best_fixed(self) -> str:
        """The merge of all that keeps most on average, in hindsight."""
        return max(self._of_kind(MERGE_ALL), key=lambda name: float(self.worth.macro(self.outcomes[name])[0]))

    @cached_property
    def areas(self) -> Mapping[str, Vector]:
        """Method -> the area under its retention-cost curve."""
        ends = self.outcomes[self.best_fixed], self.outcomes["all separate"]
        return {name: self.worth.area(curve, ends) for name, curve in self.curves.items()}

    @property
    def worst_lead(self) -> Estimate:
        """By how much MergeProbe's worst Ret exceeds that of the best fixed operator at the same cost.

        Which adapters a fixed operator merges is left to chance; the operator is chosen in hindsight.
        """
        rivals = [self.worth.worst(self.outcomes[name]) for name in self._of_kind(RANDOM)]
        return self.worth.estimate(self.worth.worst(self.outcomes[MERGEPROBE]) - np.max(rivals, axis=0))

    @property
    def area_share(self) -> Estimate:
        """MergeProbe's area over the oracle's."""
        return self.worth.estimate(self.areas[MERGEPROBE] / self.areas[ORACLE])

    @property
    def verification_share(self) -> Estimate | None:
        """Merges that MergeProbe measured, over those that a random order measures for as good a plan on average.

        The interval is that of 95 % of random orders. None where MergeProbe merges nothing, for which nothing has to be
        measured.
        """
        if not self.contest.mergeprobe.plans[0]:
            return None
        random, own = self.contest.random_verifications, self.outcomes[MERGEPROBE].num_verified
        few, many = np.quantile(random, [0.025, 0.975])
        return Estimate(own / float(np.mean(random)), own / many, own / few, len(random), "random orders")

    def _of_kind(self, kind: str) -> list[str]:
        return [name for name in self.outcomes if name.startswith(f"{kind}, ")]


def prove(
    records: Records, predictor: Predictor, *, target: float = TARGET_RETENTION, lambda_cost: float = LAMBDA_COST
) -> Proof:
    """Let every method plan a bank of which every group was measured.

    Raises
    ------
    ProofError
        The predictor was fitted on an adapter of the bank, or something was not measured.
    """
    bank = RecordedBank(records)
    if not bank.groups or not bank.of_all:
        raise ProofError(
            f"The records hold {len(bank.recipes)} merges, but not every pair and triple of adapters that may be "
            "merged by one operator, and the whole bank by another; expected those of a bank that was labelled with "
            "--preset held-out, to the end."
        )
    ranks = {one.rank for one in bank.groups}
    settings = Settings(
        target_retention=target,
        lambda_cost=lambda_cost,
        max_group_size=max(len(one.members) for one in bank.groups),
        output_ranks=tuple(sorted(ranks)),
        recipes=tuple(sorted({(one.operator, one.norm) for one in bank.groups})),
    )
    contest = Contest(bank, RecordedForecasts(bank, predictor), settings)
    outcomes = {name: method(contest) for name, method in methods(contest).items()}
    return Proof(contest, Worth(bank), outcomes, _curves(contest))


def _curves(contest: Contest) -> dict[str, list[Outcome]]:
    priced = [replace(contest, settings=replace(contest.settings, lambda_cost=cost)) for cost in LAMBDAS]
    curves = {
        MERGEPROBE: [mergeprobe(one) for one in priced],
        ORACLE: [oracle(one) for one in priced],
        "verified in random order": [verified_at_random(one) for one in priced],
    }
    for operator in sorted({one.operator for one in contest.bank.groups}):
        sizes = range(_fewest_modules(contest), len(contest.bank.adapters))
        curves[f"{RANDOM}, {operator}"] = [Outcome(tuple(partitions(contest, operator, size))) for size in sizes]
        curves[f"{COSINE}, {operator}"] = [Outcome((cosine_plan(contest, operator, size),)) for size in sizes]
    return curves


def _fewest_modules(contest: Contest) -> int:
    """Return the modules of the smallest plan whose groups were measured."""
    largest, free = contest.settings.max_group_size, len(contest.bank.free)
    return len(contest.bank.guests) + -(-free // largest)
