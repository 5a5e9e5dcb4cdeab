"""What a calibration says, in the coordinates of a core space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.factors import CoreSpace
from probe.operators.recipe import MergeError
from probe.profiles import Calibration, ModuleCalibration


def fisher_of_entries(space: CoreSpace, calibrations: Sequence[Calibration], module: str) -> Tensor:
    """Return (n, k_B, k_A), the diagonal Fisher of every member with respect to its core's entries.

    Entry (k, l) of a core moves Delta-W along Q_B[:, k] Q_A[:, l]^T. Under the rank-one proxy F = f_out f_in^T / total
    its Fisher is (sum_o Q_B[o, k]^2 f_out[o]) (sum_i Q_A[i, l]^2 f_in[i]) / total, cross terms neglected as the
    diagonal neglects them.
    """
    assert space.Q_A is not None
    left, right = space.Q_B.square(), space.Q_A.square()
    entries = []
    for calibration in _of_module(calibrations, module):
        out, inside, total = left.T @ calibration.f_out.double(), right.T @ calibration.f_in.double(), 0.0
        total = calibration.fisher_total
        entries.append(torch.outer(out, inside) / total if total > 0 else torch.zeros(len(out), len(inside)).double())
    return torch.stack(entries)


def input_directions(calibrations: Sequence[Calibration], module: str) -> Tensor:
    """Return (d_in, n q), every member's principal input directions side by side."""
    return torch.cat([calibration.P_in for calibration in _of_module(calibrations, module)], dim=1)


def input_moments(space: CoreSpace, calibrations: Sequence[Calibration], module: str) -> Tensor:
    """Return (n, k_A, k_A), E[x x^T] of every member's inputs in the bases of `space`.

    The low-rank model P diag(energy - floor) P^T + floor I; exact within the span of Q_A, which holds every P.
    """
    assert space.Q_A is not None
    moments = []
    for calibration in _of_module(calibrations, module):
        P = space.Q_A.T @ calibration.P_in.double()  # noqa: N806
        above = calibration.energy_in.double() - calibration.floor_in
        moments.append(P * above @ P.T + calibration.floor_in * torch.eye(len(P), dtype=torch.float64))
    return torch.stack(moments)


def _of_module(calibrations: Sequence[Calibration], module: str) -> list[ModuleCalibration]:
    missing = [index for index, calibration in enumerate(calibrations) if module not in calibration.modules]
    if missing:
        raise MergeError(
            f"The calibration of member {missing[0]} says nothing of module {module!r}, which another member adapts; "
            "calibrate on all modules of the base."
        )
    return [calibration.modules[module] for calibration in calibrations]
