"""Profiles on disk, worked out once for each revision: safetensors files that hold tensors and facts together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from probe.profiles import (
    AdapterProfile,
    Calibration,
    LayerActivations,
    Metadata,
    ModuleCalibration,
    ModuleProfile,
)
from probe.replacement import replaced_file

SCHEMA_VERSION = 1
"""Of the file; a file of another version is worked out anew."""

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class ProfileStore:
    """A folder of profiles. Files are written to a temporary name and renamed, so several processes may share it."""

    folder: Path

    def get(self, key: str, make: Callable[[], AdapterProfile]) -> AdapterProfile:
        """Return the profile of a key, made and kept if it is not there.

        Parameters
        ----------
        key
            Names everything that the profile depends on: the revision, and the hash of the calibration set if any.
        """
        path = self.path(key)
        known = read_profile(path)
        if known is None:
            known = make()
            write_profile(path, known)
        return known

    def path(self, key: str) -> Path:
        """Return the file of a key's profile, whether it is there or not."""
        return self.folder / f"{key}.safetensors"


def write_profile(path: Path, profile: AdapterProfile) -> None:
    """Write a profile; the file appears by one rename, whole."""
    facts = {"schema": SCHEMA_VERSION, "num_layers": profile.num_layers, "metadata": asdict(profile.metadata)}
    tensors = {f"update/{n}/{part}": getattr(m, part) for n, m in profile.modules.items() for part in ("U", "s", "V")}
    if profile.calibration is not None:
        facts["calibration"] = _calibration_facts(profile.calibration)
        tensors |= _calibration_tensors(profile.calibration)
    with replaced_file(path) as partial:
        save_file({name: t.contiguous().clone() for name, t in tensors.items()}, partial, {"facts": json.dumps(facts)})


def read_profile(path: Path) -> AdapterProfile | None:
    """Read a profile; None where the file is missing, damaged or of another schema, since it can be made again."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            if facts.get("schema") != SCHEMA_VERSION:
                return None
            return _profile(facts, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _profile(facts: Mapping[str, Any], tensors: Tensors) -> AdapterProfile:
    calibration = _calibration(facts["calibration"], tensors) if "calibration" in facts else None
    modules = {name: ModuleProfile(**parts) for name, parts in _grouped(tensors, "update").items()}
    return AdapterProfile(modules, facts["num_layers"], Metadata(**facts["metadata"]), calibration)


def _grouped(tensors: Tensors, kind: str) -> dict[str, dict[str, Tensor]]:
    """Return name -> part -> tensor, of the keys "kind/name/part"."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        own, name, part = key.split("/")
        if own == kind:
            groups.setdefault(name, {})[part] = tensors[key]
    return groups


_MODULE_TENSORS = ("f_out", "f_in", "gradient", "P_in", "energy_in")
_SCALARS = ("loss", "base_loss", "base_accuracy", "num_rows", "num_tokens", "seed")


def _calibration_facts(calibration: Calibration) -> dict[str, Any]:
    floors = {name: module.floor_in for name, module in calibration.modules.items()}
    return {"floor_in": floors} | {name: getattr(calibration, name) for name in _SCALARS}


def _calibration_tensors(calibration: Calibration) -> dict[str, Tensor]:
    modules = calibration.modules.items()
    tensors = {f"calibration/{n}/{part}": getattr(m, part) for n, m in modules for part in _MODULE_TENSORS}
    tensors |= {
        f"layer/{n}/{part}": getattr(m, part) for n, m in calibration.layers.items() for part in ("P", "energy")
    }
    return tensors | {f"base/{name}/gradient": sketch for name, sketch in calibration.base_gradients.items()}


def _calibration(facts: Mapping[str, Any], tensors: Tensors) -> Calibration:
    modules = _grouped(tensors, "calibration").items()
    return Calibration(
        modules={name: ModuleCalibration(**parts, floor_in=facts["floor_in"][name]) for name, parts in modules},
        layers={int(number): LayerActivations(**parts) for number, parts in _grouped(tensors, "layer").items()},
        base_gradients={name: parts["gradient"] for name, parts in _grouped(tensors, "base").items()},
        **{name: facts[name] for name in _SCALARS},
    )
