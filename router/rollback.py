"""Back to a routing table that was served before: which of its routes still can be.

Pure. A protected adapter stays what it is, whatever the old table says; so does a revision that was registered since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from router.consent import alone
from router.records import Adapter, Decision, Module, Placement, Recipe, RoutingTable


def decisions_back_to(
    before: RoutingTable, decisions: Collection[Decision], modules: Mapping[str, Module], holding: Collection[str]
) -> tuple[Decision, ...]:
    """Return a decision for every adapter that brings back its old route, or serves it alone where that is gone.

    Parameters
    ----------
    before
        The table to go back to.
    decisions
        Today's, one for each adapter that can be served: they say which revisions there are, and what is protected.
    modules
        By name, those that the old table routes to.
    holding
        Keys of recipes whose verdict still lets them serve.
    """
    mergeable = {decision.revision for decision in decisions if decision.placement is not Placement.PROTECTED}
    recipes = _recipes(before, modules, holding, mergeable)
    return tuple(
        decision if decision.placement is Placement.PROTECTED else _back(decision, before, recipes)
        for decision in decisions
    )


def left_out(before: RoutingTable, adapters: Collection[Adapter], decisions: Collection[Decision]) -> tuple[str, ...]:
    """Return a sentence for everything of the old table that does not come back."""
    known = {adapter.name: adapter.revision for adapter in adapters if not adapter.leaving}
    merged = {decision.adapter for decision in decisions if decision.recipe}
    notes = []
    for route in before.routes:
        if route.adapter not in known:
            notes.append(f"{route.adapter} was removed since and is left out")
        elif route.revision != known[route.adapter]:
            notes.append(f"{route.adapter} was registered anew since and is served alone")
        elif route.placement is Placement.MERGED and route.adapter not in merged:
            notes.append(f"{route.adapter} is served alone, since its merged module does not hold any more")
    return tuple(notes)


def _recipes(
    before: RoutingTable, modules: Mapping[str, Module], holding: Collection[str], mergeable: Collection[str]
) -> Mapping[str, Recipe]:
    """Return merged module -> recipe, for those that can be served again with all of their members."""
    found = (modules[name] for name in before.modules if name in modules)
    return {
        module.name: module.recipe
        for module in found
        if module.recipe and module.recipe.key in holding and set(module.members) <= set(mergeable)
    }


def _back(decision: Decision, before: RoutingTable, recipes: Mapping[str, Recipe]) -> Decision:
    route = before.route(decision.adapter)
    if route is None or route.revision != decision.revision or route.module not in recipes:
        told = f"{decision.adapter}: separate, a person rolled back to that"
        return alone(decision.adapter, decision.revision, told)
    return Decision(
        adapter=route.adapter,
        revision=route.revision,
        placement=Placement.MERGED,
        action=route.action,
        reason=f"{route.reason}; a person rolled back to that",
        recipe=recipes[route.module],
        predicted_retention=route.predicted_retention,
        lower_bound=route.lower_bound,
    )
