"""From a plan's decisions to the next routing table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from router.records import Decision, Module, Route, RoutingTable, Verdict


def next_table(
    current: RoutingTable,
    decisions: Collection[Decision],
    modules: Mapping[str, Module],
    verdicts: Collection[Verdict],
    staying: Collection[str],
) -> RoutingTable:
    """Return the table that serves the decisions; the current one, unchanged, where they change no route.

    Parameters
    ----------
    decisions
        One for each adapter that can be served.
    modules
        Adapter name -> the module that its decision asks for.
    verdicts
        What is known of merged modules: where a route's measured retention comes from.
    staying
        Names that are registered. One without a decision (its new revision was refused) keeps the route it has.
    """
    shown = {
        (verdict.recipe.key, member.revision): member.report
        for verdict in verdicts
        if verdict.passed
        for member in verdict.members
    }
    routes = {
        decision.adapter: Route(
            decision.adapter,
            decision.revision,
            modules[decision.adapter].name,
            decision.placement,
            decision.action,
            decision.reason,
            decision.recipe.operator if decision.recipe else None,
            shown.get((decision.recipe.key, decision.revision)) if decision.recipe else None,
            decision.predicted_retention,
            decision.lower_bound,
        )
        for decision in decisions
    }
    kept = {route.adapter: route for route in current.routes if route.adapter in staying}
    ordered = tuple(route for _, route in sorted((kept | routes).items()))
    return current if ordered == current.routes else RoutingTable(current.epoch + 1, ordered)
