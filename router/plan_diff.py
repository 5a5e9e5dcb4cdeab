"""What a plan would change against what is being served: who moves where, and what that does to cost and retention."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.bank_state import Settings
from router.records import Decision, Placement, RoutingTable, Trial, Verdict


class Source(StrEnum):
    """Where a retention comes from."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    CONSTRUCTION = "by construction"
    """A separate adapter keeps all: 1."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A retention, a ratio, and where it comes from; of several the least certain source counts."""

    value: float
    source: Source


@dataclass(frozen=True, slots=True)
class Move:
    """An adapter that another module would serve.

    Attributes
    ----------
    before, after
        Names of modules; None: not served before.
    together_with
        Adapters that share the module afterwards.
    retention
        What it keeps afterwards; None: neither measured nor predicted.
    """

    adapter: str
    before: str | None
    after: str
    together_with: tuple[str, ...]
    retention: Figure | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a way of serving the bank costs and keeps.

    Attributes
    ----------
    active
        Distinct engine modules.
    cost
        lambda_cost x active.
    macro, worst
        Mean and smallest retention of the adapters; None where one is unknown, or there is no adapter.
    """

    active: int
    cost: float
    macro: Figure | None
    worst: Figure | None


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """A plan against the running one.

    Attributes
    ----------
    moves
        By adapter name.
    removed
        Adapters that are served now and would not be.
    now, planned
        Before and after.
    hoped
        If every trial of the plan passed as predicted; None without predicted trials.
    warning
        What a person should know of the engine's slots; "" for nothing.
    """

    moves: tuple[Move, ...]
    removed: tuple[str, ...]
    now: Standing
    planned: Standing
    hoped: Standing | None
    warning: str


@dataclass(frozen=True, slots=True)
class _Served:
    """One adapter and what serves it."""

    module: str
    kept: Figure | None


def plan_diff(
    current: RoutingTable,
    decisions: Collection[Decision],
    trials: Sequence[Trial],
    modules: Mapping[str, str],
    verdicts: Iterable[Verdict],
    settings: Settings,
) -> PlanDiff:
    """Compare a plan with the routing table that is being served.

    Parameters
    ----------
    modules
        Adapter name -> name of the module that its decision asks for.
    verdicts
        Where measured retentions come from.
    """
    now = {
        r.adapter: _Served(r.module, _kept(r.placement, r.measured_retention, r.predicted_retention))
        for r in current.routes
    }
    planned = _planned(decisions, modules, verdicts)
    moves = tuple(
        Move(name, now[name].module if name in now else None, one.module, _sharing(name, planned), one.kept)
        for name, one in sorted(planned.items())
        if name not in now or now[name].module != one.module
    )
    after = _standing(planned, settings)
    hopes = [trial for trial in trials if trial.predicted_retentions]
    return PlanDiff(
        moves=moves,
        removed=tuple(sorted(now.keys() - planned.keys())),
        now=_standing(now, settings),
        planned=after,
        hoped=_standing(_with_trials(planned, hopes), settings) if hopes else None,
        warning=slots_warning(after.active, settings),
    )


def slots_warning(num_active: int, settings: Settings) -> str:
    """Warn of more active modules than the engine mixes in a batch; "" where they fit, or the slots are not known."""
    if settings.slots is None or num_active <= settings.slots - settings.head_room:
        return ""
    return (
        f"the plan needs {num_active} modules, and the engine mixes {settings.slots} in a batch, {settings.head_room} "
        "of them to be kept free for measuring: requests may wait for modules; nothing is merged below its bound to fit"
    )


def _planned(
    decisions: Iterable[Decision], modules: Mapping[str, str], verdicts: Iterable[Verdict]
) -> dict[str, _Served]:
    measured = {
        (verdict.recipe.key, result.revision): result.gate if result.report is None else result.report
        for verdict in verdicts
        if verdict.passed
        for result in verdict.members
    }
    planned = {}
    for decision in decisions:
        known = measured.get((decision.recipe.key, decision.revision)) if decision.recipe else None
        kept = _kept(decision.placement, known, decision.predicted_retention)
        planned[decision.adapter] = _Served(modules[decision.adapter], kept)
    return planned


def _kept(placement: Placement, measured: float | None, predicted: float | None) -> Figure | None:
    if placement is not Placement.MERGED:
        return Figure(1.0, Source.CONSTRUCTION)
    if measured is not None:
        return Figure(measured, Source.MEASURED)
    return None if predicted is None else Figure(predicted, Source.PREDICTED)


def _sharing(name: str, planned: Mapping[str, _Served]) -> tuple[str, ...]:
    module = planned[name].module
    return tuple(sorted(other for other, one in planned.items() if one.module == module and other != name))


def _with_trials(planned: Mapping[str, _Served], trials: Iterable[Trial]) -> dict[str, _Served]:
    """Return what would be served if the trials passed; who loses its group to one of them is separate."""
    served, taken = dict(planned), set[str]()
    for trial in trials:
        if not taken.isdisjoint(trial.adapters):
            continue
        taken.update(trial.adapters)
        left = {served[name].module for name in trial.adapters}
        for name, one in planned.items():
            if one.module in left and name not in taken:
                served[name] = _Served(f"separate {name}", Figure(1.0, Source.CONSTRUCTION))
        for name, kept in zip(trial.adapters, trial.predicted_retentions, strict=True):
            served[name] = _Served(f"trial {trial.recipes[0].key}", Figure(kept, Source.PREDICTED))
    return served


def _standing(served: Mapping[str, _Served], settings: Settings) -> Standing:
    active = len({one.module for one in served.values()})
    kept = [one.kept for one in served.values() if one.kept is not None]
    macro, worst = None, None
    if kept and len(kept) == len(served):
        source = max((one.source for one in kept), key=_UNCERTAINTY.index)
        macro = Figure(sum(one.value for one in kept) / len(kept), source)
        worst = min(kept, key=lambda one: one.value)
    return Standing(active, settings.lambda_cost * active, macro, worst)


_UNCERTAINTY = (Source.CONSTRUCTION, Source.MEASURED, Source.PREDICTED)
