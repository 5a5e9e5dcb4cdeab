"""Forecasts of pairs that no model behind them was fitted on, beside what was measured, by view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.predictors.compared import Compared, HeldOut
from probe.predictors.cross_fit import CrossFit
from probe.predictors.dataset import Numbers, PairRows
from probe.predictors.pair_model import PairForecasts, all_safe
from probe.predictors.schema import SIGNALS
from probe.predictors.views import View
from probe.vectors import Vector


def held_out_pairs(rows: PairRows, fitted: CrossFit) -> dict[View, HeldOut]:
    """Return what was forecast and measured in every view; every label once in each."""
    low, high = np.minimum(rows.rho_victim, rows.rho_other), np.maximum(rows.rho_victim, rows.rho_other)
    states = sorted(set(zip(low.tolist(), high.tolist(), strict=True)), reverse=True)
    is_counted = _is_counted(rows)
    found: dict[View, HeldOut] = {}
    for (regime, signals), forecasts in fitted.forecasts.items():
        is_known = np.array([missing <= SIGNALS[signals] for missing in rows.missing], dtype=np.bool_)
        is_known &= is_counted & np.isfinite(forecasts.retention)
        for state in states:
            places = np.flatnonzero(is_known & (low == state[0]) & (high == state[1]))
            if len(places):
                found[View(regime, *state, signals)] = _held_out(rows, forecasts, places)
    return found


def _is_counted(rows: PairRows) -> NDArray[np.bool_]:
    """Say which rows count: where one adapter is seen less of, that in which it is the newcomer."""
    early = np.where(rows.rho_victim < rows.rho_other, rows.victim, rows.other)
    return np.asarray((rows.rho_victim == rows.rho_other) | (early == rows.newcomer))


def _held_out(rows: PairRows, forecasts: PairForecasts, places: Numbers) -> HeldOut:
    both = _both_sides(rows.merge[places])
    first, second = places[both[:, 0]], places[both[:, 1]]
    is_known = np.isfinite(rows.is_safe[first])
    lower = (np.minimum(one[first], one[second]) for one in (forecasts.retention, rows.retention))
    return HeldOut(
        member=_compared(rows, places, forecasts.retention[places], rows.retention[places]),
        worst=_compared(rows, first, *lower),
        margin=all_safe(np.stack([forecasts.margin[first], forecasts.margin[second]]))[is_known],
        is_safe=rows.is_safe[first][is_known],
    )


def _compared(rows: PairRows, places: Numbers, forecast: Vector, measured: Vector) -> Compared:
    members = zip(rows.victim[places].tolist(), rows.other[places].tolist(), strict=True)
    return Compared(forecast, measured, rows.action[places].tolist(), rows.operator[places].tolist(), list(members))


def _both_sides(merges: Numbers) -> Numbers:
    """Return the places (merges, 2) of both sides of every merge that has two sound labels."""
    order = np.argsort(merges, kind="stable")
    starts = np.flatnonzero(merges[order][1:] == merges[order][:-1])
    return np.stack([order[starts], order[starts + 1]], axis=1)
