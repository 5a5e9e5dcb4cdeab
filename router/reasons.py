"""The sentences that plans give as reasons: one plain sentence each, every number said to be predicted or measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from probe.retention import SIGNIFICANT_GAIN, Gain, retention_in_words
from router.forecasts import GroupForecast
from router.partition import Group
from router.records import Adapter, Verdict

Names = Mapping[str, str]
"""Revision -> adapter name."""


def protected(adapter: Adapter) -> str:
    """Say why an adapter is protected."""
    cause = "it is flagged as such" if adapter.protected else f"its domain {adapter.domain} is"
    return f"{adapter.name}: protected, {cause}, so it is never merged"


def unmeasurable(adapter: Adapter) -> str:
    """Say that an adapter brought no evaluation rows."""
    return f"{adapter.name}: separate, it has no evaluation rows, so nothing could show that a merge keeps its skill"


def twin(adapter: Adapter) -> str:
    """Say that an adapter is another one under a second name."""
    return f"{adapter.name}: separate, another name has the same content and both share one module already"


def unscored(adapter: Adapter) -> str:
    """Say that an adapter's own gain is not measured yet."""
    return f"{adapter.name}: separate, it is waiting for its single-task score"


def insignificant(adapter: Adapter, gain: Gain) -> str:
    """Say that an adapter gains too little for a retention to mean anything."""
    return (
        f"{adapter.name}: separate, measured to gain {gain.value:.3f} over the base with a standard error of "
        f"{gain.standard_error:.3f}, and under {SIGNIFICANT_GAIN:g} standard errors there is nothing to keep"
    )


def merged(revision: str, group: Group, predicted: GroupForecast | None, target: float, names: Names) -> str:
    """Say what was measured of a member in the group that it is served in, beside what was predicted of it."""
    share = retention_in_words(group.retention[revision], group.lower_bound[revision])
    forecast = ""
    if predicted is not None:
        forecast = f", predicted {retention_in_words(predicted.retention[revision], predicted.lower_bound[revision])}"
    together = f"merged with {_others(revision, group.members, names)}{_manner(group, names)}"
    return f"{names[revision]}: {together}, measured to keep {share}{forecast}; {target:.2f} is asked"


def on_trial(revision: str, group: Group, names: Names) -> str:
    """Say that a merge with an adapter is about to be measured, and what is predicted of it."""
    share = retention_in_words(group.retention[revision], group.lower_bound[revision])
    others = _others(revision, group.members, names)
    return f"{names[revision]}: separate until its merge with {others} is measured, predicted to keep {share}"


def on_unpredicted_trial(name: str, others: Iterable[str]) -> str:
    """Say that a merge with an adapter is about to be measured."""
    return f"{name}: separate until its merge with {listed(others)} is measured"


def outscored(revision: str, group: Group, names: Names) -> str:
    """Say that a merge passes, but that the plan is better without it."""
    how = "was measured" if group.module else "is predicted"
    others = _others(revision, group.members, names)
    return f"{names[revision]}: separate, a merge with {others} {how} to pass, but the plan scores higher without it"


def predicted_to_fail(revision: str, forecast: GroupForecast, names: Names) -> str:
    """Say what an adapter, or its most endangered partner, is predicted to lose in the most promising merge."""
    victim = min(sorted(forecast.retention), key=lambda member: forecast.lower_bound[member])
    share = retention_in_words(forecast.retention[victim], forecast.lower_bound[victim])
    note = f"; {forecast.note}" if forecast.note else ""
    if victim == revision:
        others = _others(revision, forecast.retention, names)
        return f"{names[revision]}: separate, predicted to keep {share} next to {others}{note}"
    return f"{names[revision]}: separate, next to it {names[victim]} is predicted to keep {share}{note}"


def measured_to_fail(revision: str, verdict: Verdict, names: Names) -> str:
    """Say what an adapter, or its partner, was measured to lose in the most promising merge; else why that failed."""
    measured = [result for result in verdict.members if result.gate is not None]
    victim = min(measured, key=lambda result: _bound(result.gate_lower_bound), default=None)
    others = _others(revision, verdict.recipe.members, names)
    if victim is None or victim.gate is None:
        return f"{names[revision]}: separate, the merge with {others} could not be measured: {verdict.reason}"
    share = retention_in_words(victim.gate, _bound(victim.gate_lower_bound))
    if victim.revision == revision:
        return f"{names[revision]}: separate, measured to keep {share} next to {others}"
    return f"{names[revision]}: separate, next to it {names[victim.revision]} was measured to keep {share}"


def unknown(name: str) -> str:
    """Say that nothing is predicted of merges with an adapter."""
    return f"{name}: separate, nothing is predicted of a merge with it so far"


def never_passed(name: str) -> str:
    """Say that no measurement speaks for merging an adapter."""
    return f"{name}: separate, no merge with it has been measured to pass so far"


def listed(names: Iterable[str]) -> str:
    """Return names in order, such as "a, b and c"."""
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{', '.join(ordered[:-1])} and {ordered[-1]}"


def _others(revision: str, members: Iterable[str], names: Names) -> str:
    return listed(names[member] for member in members if member != revision)


def _manner(group: Group, names: Names) -> str:
    """Say what was done to members beyond merging them."""
    recipe = group.recipe
    lighter = [f"{names[m]} at weight {w}" for m, w in zip(recipe.members, recipe.weights, strict=True) if w != 1.0]
    pruned = sorted({names[recipe.members[part.member]] for part in recipe.pruned})
    if pruned:
        lighter.append(f"{len({(p.member, p.module) for p in recipe.pruned})} modules of {listed(pruned)} left out")
    return f" ({', '.join(lighter)})" if lighter else ""


def _bound(value: float | None) -> float:
    return -math.inf if value is None else value
