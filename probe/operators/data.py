"""What a calibration says, in the coordinates of a core space."""

from __future__ import annotations

import math
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
        proxy = torch.outer(left.T @ calibration.f_out.double(), right.T @ calibration.f_in.double())
        total = calibration.fisher_total
        entries.append(proxy / total if total > 0 else torch.zeros_like(proxy))
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


def input_powers(calibrations: Sequence[Calibration], module: str) -> Tensor:
    """Return (n,), the mean of the inputs' second moment over all d_in coordinates, for every member."""
    powers = []
    for calibration in _of_module(calibrations, module):
        num_inputs, num_directions = calibration.P_in.shape
        outside = calibration.floor_in * (num_inputs - num_directions)
        powers.append((calibration.energy_in.double().sum() + outside) / num_inputs)
    return torch.stack(powers)


def check_calibrations(calibrations: Sequence[Calibration], module: str, shape: tuple[int, int]) -> None:
    """Refuse calibrations that do not fit a module of `shape` (d_out, d_in).

    Raises
    ------
    MergeError
        A calibration lacks the module, is of another shape, or holds values that are not finite.
    """
    for index, calibration in enumerate(_of_module(calibrations, module)):
        seen = (len(calibration.f_out), len(calibration.f_in), *calibration.P_in.shape, len(calibration.energy_in))
        d_out, d_in = shape
        if seen != (d_out, d_in, d_in, seen[3], seen[3]):
            raise MergeError(
                f"The calibration of member {index} is for another {module!r}: f_out, f_in, P_in and energy_in have "
                f"the sizes {seen}, but the update is {shape}; calibrate on the base that the adapters were trained on."
            )
        parts = (calibration.f_out, calibration.f_in, calibration.P_in, calibration.energy_in)
        if not all(part.isfinite().all() for part in parts) or not math.isfinite(calibration.floor_in):
            raise MergeError(
                f"The calibration of member {index} holds NaN or infinite values for {module!r}; calibrate again."
            )


def _of_module(calibrations: Sequence[Calibration], module: str) -> list[ModuleCalibration]:
    missing = [index for index, calibration in enumerate(calibrations) if module not in calibration.modules]
    if missing:
        raise MergeError(
            f"The calibration of member {missing[0]} says nothing of module {module!r}, which another member adapts; "
            "calibrate on all modules of the base."
        )
    return [calibration.modules[module] for calibration in calibrations]
