"""A bank of which every group was measured, as a planner and a judge see it: records answer in the engine's place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from probe.bank.labelling.proof_plan import GROUP_SIZES
from probe.bank.records import Label, Records
from probe.records import MergeProbeError
from probe.retention import gain
from router.bank_state import Candidate
from router.records import BASE, Adapter, Measurement, Module, Part, Recipe, Verdict
from serve.judging import Judge

Scores = tuple[float, ...]


class ProofError(MergeProbeError):
    """Records do not hold what a proof compares."""


@dataclass(frozen=True)
class RecordedBank:
    """Records with every group measured.

    An adapter's name stands for its revision and for its evaluation set. Rows are split as a live bank splits rows that
    are all different (`probe.rows.split_rows`): those at even places decide, those at odd places report.
    """

    records: Records
    _verdicts: dict[tuple[Recipe, float], Verdict] = field(default_factory=dict, init=False, compare=False)

    @cached_property
    def adapters(self) -> tuple[Adapter, ...]:
        """All of them, sorted by name."""
        return tuple(
            Adapter(one.name, one.name, "records", one.rank, 0, one.domain, one.is_protected, evaluation=one.name)
            for one in sorted(self.records.adapters, key=lambda one: one.name)
        )

    @property
    def free(self) -> tuple[str, ...]:
        """Names of those that may be merged."""
        return tuple(adapter.name for adapter in self.adapters if not adapter.protected)

    @property
    def guests(self) -> tuple[str, ...]:
        """Names of the protected ones, whose rows every module was asked."""
        return tuple(adapter.name for adapter in self.adapters if adapter.protected)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The adapters with what each gains over the base on its gate rows."""
        return tuple(Candidate(one, gain(*self._alone(one.name, Part.GATE))) for one in self.adapters)

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """Every merge that was measured, in a fixed order."""
        merges = (label for label in self.records.labels if label.action == "merge")
        return tuple(sorted(dict.fromkeys(map(recipe_of, merges)), key=lambda one: (len(one.members), one.key)))

    @cached_property
    def groups(self) -> tuple[Recipe, ...]:
        """The merges that a plan may hold: by operators that merged every pair and triple."""
        every = {members for size in GROUP_SIZES for members in combinations(self.free, size)}
        found = [one for one in self.recipes if one.members in every]
        merged = {(one.operator, one.members) for one in found}
        return tuple(one for one in found if all((one.operator, members) in merged for members in every))

    @cached_property
    def of_all(self) -> tuple[Recipe, ...]:
        """The merges of the whole bank, protected adapters included."""
        return tuple(one for one in self.recipes if len(one.members) == len(self.adapters))

    def of(self, module: str, rows: str, part: Part) -> Measurement:
        """Return what a module of the records (or `BASE`) scores on one part of an adapter's evaluation rows.

        Raises
        ------
        ProofError
            That was not measured.
        """
        scores = self._scores.get((module, rows))
        if scores is None:
            raise ProofError(
                f"The records do not say what {module} scores on the rows of {rows}; expected those of a bank that was "
                "labelled with --preset held-out: go on labelling it until it is done."
            )
        own = scores[0 if part is Part.GATE else 1 :: 2]
        return Measurement(module, rows, part, own, (None,) * len(own))

    def judge(self, recipe: Recipe, target: float) -> Verdict:
        """Return the verdict of the live bank's judge on a recipe, from what was recorded; each is reached once."""
        if (recipe, target) not in self._verdicts:
            module, members = merged_module(recipe), self.members(recipe)
            verdict = Judge(self, target)(recipe, module, members, separate_module, self.guests)
            self._verdicts[recipe, target] = verdict
        return self._verdicts[recipe, target]

    def told(self, recipe: Recipe) -> dict[str, float]:
        """Return member -> Ret on its report rows; NaN without a gain there."""
        judge, module = Judge(self, 0.0), merged_module(recipe).name
        return {name: judge.kept(separate_name(name), module, name, Part.REPORT).value for name in recipe.members}

    def safety_told(self, recipe: Recipe) -> tuple[float, str]:
        """Return the change of the safety score against the base on report rows, and what is lost beyond 2 SE."""
        module, members = merged_module(recipe), self.members(recipe)
        delta, loss = Judge(self, 0.0).safety(module, members, separate_module, self.guests, Part.REPORT)
        return math.nan if delta is None else delta, loss

    def members(self, recipe: Recipe) -> list[Adapter]:
        """Return the adapters that a recipe merges."""
        by_name = {adapter.name: adapter for adapter in self.adapters}
        return [by_name[name] for name in recipe.members]

    def _alone(self, name: str, part: Part) -> tuple[Scores, Scores]:
        return self.of(BASE, name, part).scores, self.of(separate_name(name), name, part).scores

    @cached_property
    def _scores(self) -> dict[tuple[str, str], Scores]:
        """Return (module, adapter) -> what the module scores on the adapter's evaluation rows."""
        known: dict[tuple[str, str], Scores] = {}
        for label in (*self.records.labels, *self.records.guests):
            if label.action == "single":
                known[separate_name(label.members[0]), label.adapter] = label.merged_scores
            elif label.action == "merge":
                known[merged_module(recipe_of(label)).name, label.adapter] = label.merged_scores
            known[BASE, label.adapter] = label.base_scores
        return known


def recipe_of(label: Label) -> Recipe:
    """Return the recipe that a label was measured of."""
    weights = label.weights or (1.0,) * len(label.members)
    return Recipe(label.operator, label.members, weights, label.norm or "none", label.rank, seed=label.seed)


def merged_module(recipe: Recipe) -> Module:
    """Return the module of a recipe."""
    return Module(f"merged-{recipe.key[:16]}", recipe.members, recipe.rank, 0, recipe)


def separate_module(adapter: Adapter) -> Module:
    """Return an adapter's own module."""
    return Module(separate_name(adapter.name), (adapter.name,), adapter.rank, 0)


def separate_name(adapter: str) -> str:
    """Return the name of an adapter's own module."""
    return f"separate-{adapter}"


def names(recipes: Sequence[Recipe]) -> frozenset[str]:
    """Return the members of some recipes."""
    return frozenset(name for recipe in recipes for name in recipe.members)


@dataclass(frozen=True)
class ServedBank(RecordedBank):
    """A recorded bank whose report rows were answered by the real engine, those of the modules that were served.

    Attributes
    ----------
    served
        (module, adapter) -> scores of rows that no label was measured on.
    """

    served: Mapping[tuple[str, str], Scores]

    def of(self, module: str, rows: str, part: Part) -> Measurement:
        """Return what a module scores: report rows as the engine answered them, gate rows as recorded."""
        if part is Part.GATE:
            return super().of(module, rows, part)
        scores = self.served.get((module, rows))
        if scores is None:
            raise ProofError(f"The engine was not asked what {module} scores on the rows of {rows}; serve its plan.")
        return Measurement(module, rows, part, scores, (None,) * len(scores))
