"""What was measured on held-out rows, by view: the radius of every group of merges, and the temperature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.predictors.conformal import Radius, radii
from probe.predictors.temperature import temperature
from probe.predictors.views import View
from probe.vectors import Vector


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Forecasts beside what was measured, and what the merges were.

    Attributes
    ----------
    forecast, measured
        (rows,), Ret.
    actions, operators, members
        (rows,), of the merges.
    """

    forecast: Vector
    measured: Vector
    actions: Sequence[str]
    operators: Sequence[str]
    members: Sequence[tuple[str, ...]]

    @property
    def errors(self) -> Vector:
        """(rows,), forecast - measured: positive = too hopeful."""
        return self.forecast - self.measured


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Forecasts of one view that no model behind them was fitted on.

    Attributes
    ----------
    member, worst
        Ret of each member of each merge, and the least Ret of each merge.
    margin, is_safe
        (merges whose safety is known,), log-odds, and 0 or 1.
    """

    member: Compared
    worst: Compared
    margin: Vector
    is_safe: Vector


@dataclass(frozen=True, slots=True)
class ViewCalibration:
    """Bounds and temperature of one view.

    Attributes
    ----------
    member, worst
        Group -> radius of one member's Ret, and of the least Ret of a merge.
    temperature
        Of the log-odds that a merge is safe.
    """

    member: Mapping[str, Radius]
    worst: Mapping[str, Radius]
    temperature: float


Calibration = Mapping[View, ViewCalibration]


def calibrate(held_out: Mapping[View, HeldOut], alpha: float) -> dict[View, ViewCalibration]:
    """Return the calibration of every view.

    A radius is the largest of what was measured in its own view and in every view that knows more: knowing less never
    narrows a bound, not even by chance.
    """
    own = {view: _measured(found, alpha) for view, found in held_out.items()}
    return {view: _widened(view, own) for view in own}


def _measured(found: HeldOut, alpha: float) -> ViewCalibration:
    return ViewCalibration(
        member=_radii(found.member, alpha),
        worst=_radii(found.worst, alpha),
        temperature=temperature(found.margin, found.is_safe),
    )


def _radii(found: Compared, alpha: float) -> dict[str, Radius]:
    return radii(found.errors, found.actions, found.operators, alpha)


def _widened(view: View, own: Mapping[View, ViewCalibration]) -> ViewCalibration:
    richer = [found for other, found in own.items() if view.knows_no_more_than(other)]
    return ViewCalibration(
        member=_largest(own[view].member, (found.member for found in richer)),
        worst=_largest(own[view].worst, (found.worst for found in richer)),
        temperature=own[view].temperature,
    )


def _largest(own: Mapping[str, Radius], richer: Iterable[Mapping[str, Radius]]) -> dict[str, Radius]:
    others = list(richer)
    return {
        group: Radius(max(other[group].value for other in others if group in other), found.num_labels)
        for group, found in own.items()
    }


def as_json(calibration: Calibration) -> list[dict[str, Any]]:
    """Return a calibration as JSON values, one object a view."""
    return [
        {
            "view": view.as_json(),
            "temperature": found.temperature,
            "member": {group: asdict(one) for group, one in found.member.items()},
            "worst": {group: asdict(one) for group, one in found.worst.items()},
        }
        for view, found in calibration.items()
    ]


def from_json(fields: Sequence[Mapping[str, Any]]) -> dict[View, ViewCalibration]:
    """Make a calibration from what `as_json` gave."""
    return {
        View(**one["view"]): ViewCalibration(
            member={group: Radius(**found) for group, found in one["member"].items()},
            worst={group: Radius(**found) for group, found in one["worst"].items()},
            temperature=float(one["temperature"]),
        )
        for one in fields
    }
