"""Forecasts for the planner: a predictor over the signals that were measured of the bank's adapters."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from probe.predictors.forecast import PredictorError
from probe.predictors.predictor import Predictor, default_predictor
from router.forecasts import ConflictPart, GroupForecast
from router.records import Adapter, Recipe
from serve.known import Known, KnownForecasts
from serve.signals.evidence import Subject, digest
from serve.signals.subjects import Subjects

log = logging.getLogger("ray.serve")

Measured = TypeVar("Measured")


class BankForecasts:
    """`router.forecasts.Forecasts` of one bank.

    Each adapter and pair is seen with the most that was measured of it: its weights alone first, later what its rows
    say too.

    Parameters
    ----------
    predictor
        Makes the forecasts.
    subjects
        Whose signals there are.
    """

    def __init__(self, predictor: Predictor, subjects: Subjects) -> None:
        self.predictor, self.digest = predictor, predictor_digest(predictor)
        self._subjects, self._evidence = subjects, subjects.evidence
        self._adapters: dict[str, Adapter] = {}
        self._neighbours: dict[str, list[str]] = {}

    def see(self, adapters: Sequence[Adapter]) -> None:
        """Take notice of today's bank."""
        mergeable = self._subjects.mergeable(adapters)
        if mergeable != list(self._adapters.values()):
            self._neighbours = self._subjects.neighbours(mergeable)
            self._adapters = {adapter.revision: adapter for adapter in mergeable}

    @property
    def knows_nothing(self) -> bool:
        """Whether nothing was measured of any adapter so far."""
        views = (view for revision in self._adapters for view in self._views(revision))
        return all(self._evidence.adapter(view) is None for view in views)

    def version(self, revision: str) -> str:
        """Return a token of the predictor, and of all that was measured of an adapter and its pairs so far."""
        views = [self._pair_views(revision, other) for other in self._neighbours.get(revision, ())]
        pairs = [sum(self._evidence.pair(*view) is not None for view in both) for both in views]
        adapter = [self._evidence.adapter(view) is not None for view in self._views(revision)]
        return digest([self.digest, [view.key for view in self._views(revision)], adapter, pairs])

    def neighbours(self, revision: str) -> Sequence[str]:
        """Return the adapters whose updates agree most beyond colliding, in that order."""
        return self._neighbours.get(revision, ())

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return a forecast for each recipe, None where a member or a pair was not measured yet."""
        known = KnownForecasts(self.predictor, self._gather(recipes))
        try:
            return known.groups(recipes)
        except PredictorError:
            log.exception("the predictor cannot forecast; these groups are planned as unknown")
            return [None] * len(recipes)

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        """Return layer bands of members by how much they hurt the others' tasks; each keeps its least harmful one."""
        return self._gather([Recipe("", tuple(members), (), "", 0)]).conflicts(members)

    def _views(self, revision: str) -> tuple[Subject, Subject]:
        """Return what is looked at of an adapter: all of it, and its weights alone."""
        adapter = self._adapters[revision]
        return self._subjects.full(adapter), self._subjects.light(adapter)

    def _pair_views(self, first: str, second: str) -> list[tuple[Subject, Subject]]:
        return list(zip(self._views(first), self._views(second), strict=True))

    def _gather(self, recipes: Sequence[Recipe]) -> Known:
        """Return all that is known of the members of some recipes, and of their pairs."""
        members = {member for recipe in recipes for member in recipe.members if member in self._adapters}
        pairs = {
            (first, second)
            for recipe in recipes
            for first, second in combinations(sorted(recipe.members), 2)
            if {first, second} <= members
        }
        adapters = {member: self._best(map(self._evidence.adapter, self._views(member))) for member in members}
        found = {
            (first, second): self._best(self._evidence.pair(*views) for views in self._pair_views(first, second))
            for first, second in pairs
        }
        return Known(
            {member: one for member, one in adapters.items() if one is not None},
            {pair: one for pair, one in found.items() if one is not None},
        )

    @staticmethod
    def _best(views: Iterable[Measured | None]) -> Measured | None:
        return next((view for view in views if view is not None), None)


def load_predictor(setting: str) -> Predictor:
    """Read the predictor that `policy.predictor` names: a folder, or "default" for the one that is shipped.

    Raises
    ------
    PredictorError
        There is none, it is damaged, or it reads other columns than this version measures.
    """
    return default_predictor() if setting == "default" else Predictor.load(Path(setting))


def predictor_digest(predictor: Predictor) -> str:
    """Return a short hash that tells predictors apart: of the records and options that they were fitted with."""
    card = predictor.card
    return digest([card.records_hash, sorted(card.options.items(), key=str), card.date])
