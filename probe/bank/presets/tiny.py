"""The smallest bank: every step from training to the report can be tried on it in minutes."""

from __future__ import annotations

from probe.bank.presets.grid import ALL, ATTENTION, adapter
from probe.bank.presets.preset import Preset

TINY = Preset(
    name="tiny",
    seed=0,
    recipes=(
        adapter("math-sums", "math:sums", 4, ATTENTION, 2e-3, 8, 160),
        adapter("code-calls", "code:calls", 4, ATTENTION, 2e-3, 8, 120),
        adapter("instruction-repeats", "instruction:repeats", 8, ALL, 1e-3, 16, 120, 0.25),
        adapter("safety-verbs", "safety:verbs", 8, ALL, 1e-3, 16, 120, 0.25),
    ),
    evaluation_rows=48,
    calibration_rows=16,
    scored_rows=24,
)
