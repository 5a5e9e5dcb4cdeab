"""Small banks and verdicts for tests of planners."""

from __future__ import annotations

from collections.abc import Iterable

from probe.retention import Gain
from router.bank_state import BankState, Candidate
from router.records import Adapter, Decision, MemberResult, Recipe, Route, RoutingTable, Verdict

CLEAR_GAIN = Gain(value=0.6, standard_error=0.05, num_rows=50)


def candidate(name: str, gain: Gain | None = CLEAR_GAIN, **fields: object) -> Candidate:
    known = {"revision": f"r-{name}", "source": "here", "rank": 8, "num_bytes": 1, "evaluation": f"rows-{name}"}
    return Candidate(Adapter(name=name, **known | fields), gain)  # type: ignore[arg-type]


def verdict(members: str, retention: float = 0.95, bound: float = 0.9, operator: str = "ta") -> Verdict:
    """Return a verdict on the adapters whose names are the letters of `members`."""
    revisions = tuple(sorted(f"r-{name}" for name in members))
    recipe = Recipe(operator, revisions, (1.0,) * len(revisions), "mean_source", 16)
    results = tuple(MemberResult(revision, retention, bound, retention, 0.02, 50, 50) for revision in revisions)
    return Verdict(recipe, f"m-{members}-{operator}", bound >= 0.85, "measured", results)


def table(decisions: Iterable[Decision], verdicts: Iterable[Verdict] = ()) -> RoutingTable:
    """Serve a plan: what the controller would commit."""
    modules = {v.recipe: v.module for v in verdicts}
    return RoutingTable(
        epoch=1,
        routes=tuple(
            Route(d.adapter, d.revision, modules[d.recipe] if d.recipe else d.revision, d.placement, d.action, d.reason)
            for d in decisions
        ),
    )


def groups(decisions: Iterable[Decision]) -> set[frozenset[str]]:
    """Return the names of the adapters of every merged group."""
    by_recipe: dict[Recipe, set[str]] = {}
    for decision in decisions:
        if decision.recipe is not None:
            by_recipe.setdefault(decision.recipe, set()).add(decision.adapter)
    return {frozenset(names) for names in by_recipe.values()}


def bank_of(names: str, **fields: object) -> BankState:
    return BankState(candidates=tuple(candidate(name) for name in names), **fields)  # type: ignore[arg-type]
