"""A policy that asks for each forecast once: a bank that gains one adapter is planned at the price of that adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from router.bank_state import Settings
from router.forecasts import Forecasts, GroupForecast
from router.ledger import Members
from router.policy import Option, Options, Policy, closeness
from router.records import Recipe

Kept = TypeVar("Kept")


@dataclass(slots=True)
class RememberedPolicy:
    """Keeps a policy's answers until the version of a member changes or it leaves the bank.

    Of recipes that no plan could want it keeps the closest one of a set: for the reason why the set is not merged.
    Two plans at a time do no harm: both would ask for the same.
    """

    settings: Settings
    forecasts: Forecasts
    _versions: Mapping[str, str] = field(default_factory=dict)
    _ranks: Mapping[str, int] = field(default_factory=dict)
    _merged: dict[Members, tuple[Option, ...]] = field(default_factory=dict)
    _reworked: dict[bool, dict[Members, tuple[Option, ...]]] = field(default_factory=lambda: {False: {}, True: {}})
    _single: dict[Recipe, GroupForecast | None] = field(default_factory=dict)

    def update(self, ranks: Mapping[str, int]) -> None:
        """Begin a plan of a bank: forget what rests on other versions, or on adapters that are not in it.

        Parameters
        ----------
        ranks
            Revision -> rank of every adapter that may be merged.
        """
        versions = {revision: self.forecasts.version(revision) for revision in ranks}
        stale = {revision for revision, version in self._versions.items() if versions.get(revision) != version}
        self._versions, self._ranks = versions, ranks
        if stale:
            self._merged = _without(self._merged, stale)
            self._reworked = {key: _without(known, stale) for key, known in self._reworked.items()}
            self._single = {recipe: one for recipe, one in self._single.items() if stale.isdisjoint(recipe.members)}

    def merged(self, sets: Iterable[Members]) -> Options:
        """Return what `Policy.merged` does."""
        wanted = list(sets)
        new = [members for members in wanted if members not in self._merged]
        for members, options in self._policy.merged(new).items() if new else ():
            is_near = any(self._policy.is_near(option) for option in options)
            self._merged[members] = options if is_near else _closest_of(options)
        return {members: self._merged[members] for members in wanted}

    def reworked(self, merged: Options, by_every_operator: bool) -> Options:
        """Return what `Policy.reworked` does, and no options for sets out of reach."""
        known = self._reworked[by_every_operator]
        new = {members: options for members, options in merged.items() if members not in known}
        found = self._policy.reworked(new, by_every_operator) if new else {}
        for members in new:
            options = found.get(members, ())
            passing = tuple(option for option in options if option.is_hopeful(self.settings.target_retention))
            known[members] = passing or _closest_of(options)
        return {members: known[members] for members in merged}

    def forecasts_of(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        """Return what `Policy.forecasts_of` does."""
        new = [recipe for recipe in dict.fromkeys(recipes) if recipe not in self._single]
        known = {recipe: self._known(recipe) for recipe in new}
        asked = [recipe for recipe, forecast in known.items() if forecast is None]
        answers = self._policy.forecasts_of(asked) if asked else ()
        self._single.update(known | dict(zip(asked, answers, strict=True)))
        return [self._single[recipe] for recipe in recipes]

    @property
    def _policy(self) -> Policy:
        return Policy(self.settings, self.forecasts, self._ranks)

    def _known(self, recipe: Recipe) -> GroupForecast | None:
        """Return a forecast that came with its set."""
        members = frozenset(recipe.members)
        kept = (self._merged, *self._reworked.values())
        options = (option for known in kept for option in known.get(members, ()))
        return next((option.forecast for option in options if option.recipe == recipe), None)


def _closest_of(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return (max(options, key=closeness),) if options else ()


def _without(known: Mapping[Members, Kept], stale: set[str]) -> dict[Members, Kept]:
    return {members: one for members, one in known.items() if stale.isdisjoint(members)}
