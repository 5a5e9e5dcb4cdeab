"""The pilot: eight adapters on which the gate of `mergeprobe.md` is tried before a large bank is built."""

from __future__ import annotations

from probe.bank.presets.grid import ALL, ATTENTION, adapter
from probe.bank.presets.preset import Preset

PILOT = Preset(
    name="pilot",
    seed=0,
    recipes=(
        adapter("math-lists", "math:lists", 16, ALL, 5e-4, 32, 800, 0.5),
        adapter("code-comprehensions", "code:comprehensions", 16, ALL, 5e-4, 32, 500, 0.5),
        adapter("science-symbols", "science:symbols", 16, ALL, 5e-4, 32, 600, 0.7),
        adapter("safety-balanced", "safety:balanced", 16, ALL, 4e-4, 32, 600, 0.7),
        adapter("math-sums", "math:sums", 8, ATTENTION, 1e-3, 16, 900, 0.5),
        adapter("code-texts", "code:texts", 8, ATTENTION, 1e-3, 16, 500, 0.7),
        adapter("science-formulas", "science:formulas", 8, ATTENTION, 1e-3, 16, 800, 0.5),
        adapter("instruction-repeats", "instruction:repeats", 8, ATTENTION, 1e-3, 16, 700, 0.7),
    ),
)
