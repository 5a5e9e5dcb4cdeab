"""What was measured on held-out rows, by view: the radius of every group of merges, and the temperature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.predictors.compared import Compared, HeldOut
from probe.predictors.conformal import Radius, radii
from probe.predictors.coverage import level_that_covers
from probe.predictors.temperature import temperature
from probe.predictors.views import View


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


def calibrate(held_out: Mapping[View, HeldOut], folds: Mapping[str, int], alpha: float) -> dict[View, ViewCalibration]:
    """Return the calibration of every view, whose bounds miss no more than a share alpha of other adapters' labels.

    A radius is the largest of what was measured in its own view and in every view that knows more: knowing less never
    narrows a bound, not even by chance.
    """
    own = {view: _measured(found, folds, alpha) for view, found in held_out.items()}
    return {view: _widened(view, own) for view in own}


def _measured(found: HeldOut, folds: Mapping[str, int], alpha: float) -> ViewCalibration:
    return ViewCalibration(
        member=_radii(found.member, folds, alpha),
        worst=_radii(found.worst, folds, alpha),
        temperature=temperature(found.margin, found.is_safe),
    )


def _radii(found: Compared, folds: Mapping[str, int], alpha: float) -> dict[str, Radius]:
    return radii(found.errors, found.actions, found.operators, level_that_covers(found, folds, alpha))


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
