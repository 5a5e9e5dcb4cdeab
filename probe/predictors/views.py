"""Views: how much is known of a merge when it is forecast. Errors are measured, and bounds made, for each view apart.

A forecast is worse the less is known: whether the predictor was fitted on some of the members (bank-aware) or on none
(cold start), how far their training has come, and which signals were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.predictors.schema import SIGNALS, Missing

BANK_AWARE, COLD_START = 1, 2


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a merge.

    Attributes
    ----------
    num_new
        `BANK_AWARE`: at most one member is new to the predictor; `COLD_START`: more than one is, or nobody knows.
    low, high
        Share of training seen of the member known least, and of all others at least.
    signals
        A key of `probe.predictors.schema.SIGNALS`.
    """

    num_new: int
    low: float
    high: float
    signals: str

    @property
    def key(self) -> str:
        """Name for reports, such as ``cold start, 0.1 beside 1, all signals``."""
        regime = "bank-aware" if self.num_new == BANK_AWARE else "cold start"
        return f"{regime}, {self.low:g} beside {self.high:g}, {self.signals}"

    def knows_no_more_than(self, other: View) -> bool:
        """Say whether everything known here is known there as well."""
        return (
            self.num_new >= other.num_new
            and self.low <= other.low
            and self.high <= other.high
            and SIGNALS[self.signals] >= SIGNALS[other.signals]
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def view_of(rhos: Sequence[float], num_new: int, missing: Missing) -> View:
    """Return the view of a merge.

    Parameters
    ----------
    rhos
        Share of training seen, one a member.
    num_new
        Members that the predictor was not fitted on.
    missing
        Needs of signals that were not measured, of any member or pair.
    """
    low, high = sorted(rhos)[:2]
    return View(BANK_AWARE if num_new <= 1 else COLD_START, low, high, signals_of(missing))


def signals_of(missing: Missing) -> str:
    """Return what is known at least: the richest key of `SIGNALS` that needs nothing that is missing."""
    return min((key for key, needs in SIGNALS.items() if needs >= missing), key=lambda key: len(SIGNALS[key]))


def closest(asked: View, measured: Iterable[View]) -> View | None:
    """Return the measured view that knows most among those that know no more than the one asked; None without one.

    So an adapter seen at 30 % of its training is forecast with the errors measured at 10 %.
    """
    fitting = [view for view in measured if view.knows_no_more_than(asked)]
    return min(fitting, key=_ignorance, default=None)


def _ignorance(view: View) -> tuple[float, ...]:
    return len(SIGNALS[view.signals]), -view.low, -view.high, view.num_new
