"""The calibration pass: what an adapter's own rows say of it, in one forward and backward.

Read in this order: `calibration_pass` (the pass), `adapter_sums` (what it adds up), `sketch`, `fisher` and
`directions` (the mathematics), `backward`, `model_parts` and `adapted` (the model), `shift` and `joint_loss` (one
adapter on the rows of another).
"""

from __future__ import annotations

from probe.calibration.adapted import adapted
from probe.calibration.base_pass import BaseCalibration, calibrate_base
from probe.calibration.calibration_pass import calibrate
from probe.calibration.errors import CalibrationError
from probe.calibration.joint_loss import joint_losses
from probe.calibration.shift import Displacements, displacements, shifts

__all__ = [
    "BaseCalibration",
    "CalibrationError",
    "Displacements",
    "adapted",
    "calibrate",
    "calibrate_base",
    "displacements",
    "joint_losses",
    "shifts",
]
