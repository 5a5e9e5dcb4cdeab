"""Who of a bank may be merged at all, and why the others may not; what each adapter weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from router import reasons
from router.bank_state import BankState, Candidate, Settings
from router.records import Action, Adapter, Decision, Placement
from router.score import traffic_weights


@dataclass(frozen=True, slots=True)
class Screened:
    """A bank without its leavers, sorted into those that may be merged and those that may not.

    Attributes
    ----------
    staying
        Adapters that a plan decides on, sorted by name.
    excluded
        Name -> decision of those that may not be merged.
    mergeable
        Revision -> adapter of those that may.
    names
        Revision -> name of the same.
    weights
        Revision -> w >= 0; they sum to the number of staying adapters.
    """

    staying: tuple[Adapter, ...]
    excluded: Mapping[str, Decision]
    mergeable: Mapping[str, Adapter]
    names: Mapping[str, str]
    weights: Mapping[str, float]


def screen(bank: BankState, settings: Settings) -> Screened:
    """Sort a bank's adapters by whether they may be merged."""
    staying = sorted((c for c in bank.candidates if not c.adapter.leaving), key=lambda one: one.adapter.name)
    num_names = Counter(candidate.adapter.revision for candidate in staying)
    excluded = {}
    for candidate in staying:
        if decision := _exclusion(candidate, num_names[candidate.adapter.revision], settings):
            excluded[candidate.adapter.name] = decision
    mergeable = {c.adapter.revision: c.adapter for c in staying if c.adapter.name not in excluded}
    return Screened(
        staying=tuple(candidate.adapter for candidate in staying),
        excluded=excluded,
        mergeable=mergeable,
        names={revision: adapter.name for revision, adapter in mergeable.items()},
        weights=traffic_weights(staying, bank.traffic),
    )


def route(adapter: Adapter, reason: str, placement: Placement = Placement.SEPARATE) -> Decision:
    """Return the decision that keeps an adapter out of every merge."""
    return Decision(adapter.name, adapter.revision, placement, Action.ROUTE, reason)


def _exclusion(candidate: Candidate, num_names: int, settings: Settings) -> Decision | None:
    adapter, gain = candidate.adapter, candidate.gain
    if adapter.protected or adapter.domain in settings.protected_domains:
        return route(adapter, reasons.protected(adapter), Placement.PROTECTED)
    if adapter.evaluation is None:
        return route(adapter, reasons.unmeasurable(adapter))
    if num_names > 1:
        return route(adapter, reasons.twin(adapter))
    if gain is None:
        return route(adapter, reasons.unscored(adapter))
    return None if gain.is_significant else route(adapter, reasons.insignificant(adapter, gain))
