"""What can go wrong in a calibration pass."""

from __future__ import annotations

from probe.records import MergeProbeError


class CalibrationError(MergeProbeError):
    """Rows, model and adapter do not go together, or the pass gave no finite numbers."""
