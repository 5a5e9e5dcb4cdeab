"""Presets: which adapters a bank holds, and how each is trained. One file each."""

from __future__ import annotations

from collections.abc import Mapping

from probe.bank.presets.cpu import CPU
from probe.bank.presets.demo import DEMO
from probe.bank.presets.held_out import HELD_OUT
from probe.bank.presets.large import LARGE
from probe.bank.presets.pilot import PILOT
from probe.bank.presets.preset import Preset, PresetError, Recipe
from probe.bank.presets.tiny import TINY

__all__ = ["PRESETS", "Preset", "PresetError", "Recipe"]

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (TINY, DEMO, PILOT, CPU, LARGE, HELD_OUT)}
