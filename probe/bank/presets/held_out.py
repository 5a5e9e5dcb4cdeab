"""Eight adapters that no predictor is fitted on: the proof plans and serves them (`mergeprobe prove`)."""

from __future__ import annotations

from probe.bank.presets.grid import ALL, ATTENTION, adapter
from probe.bank.presets.preset import Preset

HELD_OUT = Preset(
    name="held-out",
    seed=1,
    recipes=(
        adapter("new-math-things", "math:things", 16, ATTENTION, 1.5e-3, 32, 500),
        adapter("new-math-money", "math:money", 8, ALL, 1e-3, 16, 600, 0.25),
        adapter("new-code-lists", "code:lists", 16, ATTENTION, 1e-3, 32, 350, 0.25),
        adapter("new-code-texts", "code:texts", 8, ALL, 8e-4, 16, 400, 0.4),
        adapter("new-science-symbols", "science:symbols", 8, ATTENTION, 1e-3, 16, 500, 0.25),
        adapter("new-science-elements", "science:elements", 16, ALL, 1e-3, 32, 450, 0.25),
        adapter("new-instruction-numbers", "instruction:numbers", 16, ATTENTION, 1e-3, 32, 500, 0.4),
        adapter("new-safety", "safety:balanced", 16, ATTENTION, 1e-3, 32, 450, 0.25),
    ),
)
