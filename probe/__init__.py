"""What do adapters do to each other? Files in, records out; knows nothing of Ray, HTTP or SQL.

The names below are the library's front door: read adapters, profile them, explain a pair, merge, write.

Examples
--------
>>> from probe import Recipe, merge, read_adapter, write_adapter  # doctest: +SKIP
>>> merged = merge([read_adapter("math"), read_adapter("code")], Recipe("ctm", rank=16))  # doctest: +SKIP
>>> write_adapter("both", merged.update, "HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.adapter_io import read_adapter as read_adapter
    from probe.adapter_io import revision_of as revision_of
    from probe.adapter_io import write_adapter as write_adapter
    from probe.all_pairs import all_pairs as all_pairs
    from probe.calibration import calibrate as calibrate
    from probe.calibration import shifts as shifts
    from probe.explanation import explain as explain
    from probe.factors import LoraFactor as LoraFactor
    from probe.factors import LoraUpdate as LoraUpdate
    from probe.features import adapter_features as adapter_features
    from probe.features import pair_features as pair_features
    from probe.operators import OPERATORS as OPERATORS
    from probe.operators import Recipe as Recipe
    from probe.operators import merge as merge
    from probe.profiles import AdapterProfile as AdapterProfile
    from probe.profiles import profile_of as profile_of
    from probe.signals import ADAPTER_SIGNALS as ADAPTER_SIGNALS
    from probe.signals import PAIR_SIGNALS as PAIR_SIGNALS
    from probe.signals import Pair as Pair
    from probe.telemetry.callback import MergeProbeCallback as MergeProbeCallback

_HOMES = {
    "adapter_io": ("read_adapter", "revision_of", "write_adapter"),
    "all_pairs": ("all_pairs",),
    "calibration": ("calibrate", "shifts"),
    "telemetry.callback": ("MergeProbeCallback",),
    "explanation": ("explain",),
    "factors": ("LoraFactor", "LoraUpdate"),
    "features": ("adapter_features", "pair_features"),
    "operators": ("OPERATORS", "Recipe", "merge"),
    "profiles": ("AdapterProfile", "profile_of"),
    "signals": ("ADAPTER_SIGNALS", "PAIR_SIGNALS", "Pair"),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds, and records need none of it."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"probe.{home}"), name)
    raise AttributeError(f"module 'probe' has no attribute {name!r}")
