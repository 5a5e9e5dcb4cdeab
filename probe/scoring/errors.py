"""The error of the scorers."""

from __future__ import annotations

from probe.records import MergeProbeError


class ScoringError(MergeProbeError):
    """A row's check or an engine's answer cannot be graded."""
