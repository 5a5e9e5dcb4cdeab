"""Which part of a plan needs a person's word: what the controller thought of itself does, what a person asked for not.

Pure. A registration, a removal and a flag are a person's acts already, and taking a group apart that failed its
re-check or that somebody vetoed is the safe direction: these are served at once. Merging, and taking apart what holds,
waits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from router.records import Action, Decision, Placement, Recipe, Route, RoutingTable

Change = tuple[str, str, str, str | None]
"""What a decision means for the routing table: adapter, revision, placement, key of the merged recipe if any."""


@dataclass(frozen=True, slots=True)
class Consent:
    """Compares decisions with what is being served.

    Attributes
    ----------
    table
        The routing table that is being served.
    recipes
        Merged module of that table -> its recipe.
    broken
        Merged modules that must not go on serving: they failed a re-check, or a person vetoed them.
    """

    table: RoutingTable
    recipes: Mapping[str, Recipe]
    broken: frozenset[str] = frozenset()

    def granted(self, decisions: Collection[Decision]) -> tuple[Decision, ...]:
        """Return the decisions as far as they need no person's word, one for each adapter."""
        return tuple(self._granted(decision) for decision in decisions)

    def pending(self, decisions: Collection[Decision]) -> frozenset[Change]:
        """Return what the decisions would change beyond what is granted; reasons and forecasts do not count."""
        return frozenset(map(change_of, decisions)) - frozenset(map(change_of, self.granted(decisions)))

    def changes(self, decisions: Collection[Decision]) -> frozenset[Change]:
        """Return what the decisions would change in the routing table."""
        return frozenset(map(change_of, decisions)) - frozenset(map(self._served, self.table.routes))

    def _granted(self, decision: Decision) -> Decision:
        route = self.table.route(decision.adapter)
        if route is not None and change_of(decision) == self._served(route):
            return decision
        if route is not None and self._is_held(route, decision):
            return self._kept(route)
        return _alone(decision) if decision.recipe else decision

    def _is_held(self, route: Route, decision: Decision) -> bool:
        """Say whether a route stays as it is until a person agrees to the decision."""
        return (
            route.revision == decision.revision
            and Placement.PROTECTED not in (route.placement, decision.placement)
            and route.module not in self.broken
        )

    def _served(self, route: Route) -> Change:
        recipe = self.recipes.get(route.module)
        return route.adapter, route.revision, route.placement, recipe.key if recipe else None

    def _kept(self, route: Route) -> Decision:
        return Decision(
            adapter=route.adapter,
            revision=route.revision,
            placement=route.placement,
            action=route.action,
            reason=_held(route.adapter),
            recipe=self.recipes.get(route.module),
            predicted_retention=route.predicted_retention,
            lower_bound=route.lower_bound,
        )


def change_of(decision: Decision) -> Change:
    """Return what a decision means for the routing table."""
    recipe = decision.recipe.key if decision.recipe else None
    return decision.adapter, decision.revision, decision.placement, recipe


def alone(adapter: str, revision: str, reason: str) -> Decision:
    """Return the decision that serves an adapter by a module of its own."""
    return Decision(adapter, revision, Placement.SEPARATE, Action.ROUTE, reason)


def _alone(decision: Decision) -> Decision:
    return alone(decision.adapter, decision.revision, f"{decision.adapter}: separate until a person approves its merge")


def _held(adapter: str) -> str:
    return f"{adapter}: served as before until a person approves a plan that changes that"
