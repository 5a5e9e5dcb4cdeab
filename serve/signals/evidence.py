"""What was measured of adapters and pairs without merging them, kept on disk by what it depends on.

A file is written once, under a temporary name, and renamed, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from probe.predictors.forecast import AdapterEvidence
from probe.replacement import replaced_file
from probe.vectors import SCHEMA_VERSION, Features, PairFeatures, Vector

FORMAT = 1
"""Of the files; raised with every change that an older reader would misread."""
FINISHED = 1.0
"""rho of a registered adapter: its training is over."""
KEY_LENGTH = 32
"""Hex digits of a digest."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter as far as its signals depend on it; equal subjects have equal signals.

    Attributes
    ----------
    revision
        Content hash.
    rows
        Content hash of its calibration rows; None: its weights alone are looked at.
    domain
        As registered.
    base
        Names the base model that rows are run through.
    """

    revision: str
    rows: str | None
    domain: str | None
    base: str

    @property
    def key(self) -> str:
        """Name of its files: a hash of everything that they depend on."""
        return digest([FORMAT, SCHEMA_VERSION, self.revision, self.rows, self.domain, self.rows and self.base])


@dataclass(frozen=True, slots=True, eq=False)
class AdapterMeasured:
    """Signals of one adapter.

    Attributes
    ----------
    evidence
        For the predictor.
    modules
        Names of the base modules that it changes.
    num_layers
        Blocks of the base model.
    profile
        Name of its calibrated profile's file; None without one.
    """

    evidence: AdapterEvidence
    modules: tuple[str, ...]
    num_layers: int
    profile: str | None


@dataclass(frozen=True, slots=True, eq=False)
class PairMeasured:
    """Signals of one pair.

    Attributes
    ----------
    features
        For the predictor; `forth` is what the first does to the second.
    damage
        First on second, and second on first, as `probe.damage.fisher_damage` gives it; empty where not calibrated.
    """

    features: PairFeatures
    damage: tuple[Vector, Vector]

    @property
    def reversed(self) -> PairMeasured:
        """The same with first and second exchanged."""
        own = self.features
        return PairMeasured(PairFeatures(own.back, own.forth, own.symmetric), self.damage[::-1])


@dataclass(frozen=True, slots=True)
class Evidence:
    """A folder of signals; several processes may share it."""

    folder: Path
    _adapters: dict[str, AdapterMeasured] = field(default_factory=dict)
    _pairs: dict[tuple[str, str], PairMeasured] = field(default_factory=dict)

    def adapter(self, subject: Subject) -> AdapterMeasured | None:
        """Return what was measured of an adapter, None where nothing was yet."""
        if subject.key not in self._adapters and (found := _read(self._adapter_path(subject))):
            facts, arrays = found
            self._adapters[subject.key] = AdapterMeasured(
                evidence=AdapterEvidence(arrays["values"], FINISHED),
                modules=tuple(facts["modules"]),
                num_layers=facts["num_layers"],
                profile=facts["profile"],
            )
        return self._adapters.get(subject.key)

    def pair(self, first: Subject, second: Subject) -> PairMeasured | None:
        """Return what was measured of a pair, None where nothing was yet."""
        if first.key > second.key:
            found = self.pair(second, first)
            return found.reversed if found else None
        key = first.key, second.key
        if key not in self._pairs and (read := _read(self._pair_path(first, second))):
            _, arrays = read
            parts = (Features(arrays[part], {}) for part in ("forth", "back", "symmetric"))
            damage = arrays["damage forth"], arrays["damage back"]
            self._pairs[key] = PairMeasured(PairFeatures(*parts), damage)
        return self._pairs.get(key)

    def put_adapter(self, subject: Subject, measured: AdapterMeasured) -> None:
        """Keep what was measured of an adapter."""
        facts = {"modules": measured.modules, "num_layers": measured.num_layers, "profile": measured.profile}
        _write(self._adapter_path(subject), facts | {"subject": asdict(subject)}, values=measured.evidence.values)

    def subjects(self) -> list[Subject]:
        """Return every adapter of which anything was measured, those with calibration rows last."""
        files = sorted((self.folder / "adapters").glob("*.npz"))
        found = [Subject(**read[0]["subject"]) for read in map(_read, files) if read]
        return sorted(found, key=lambda subject: subject.rows is not None)

    def put_pair(self, first: Subject, second: Subject, measured: PairMeasured) -> None:
        """Keep what was measured of a pair."""
        if first.key > second.key:
            return self.put_pair(second, first, measured.reversed)
        own, (forth, back) = measured.features, measured.damage
        arrays = {"forth": own.forth.values, "back": own.back.values, "symmetric": own.symmetric.values}
        return _write(self._pair_path(first, second), {}, **arrays, **{"damage forth": forth, "damage back": back})

    @property
    def profiles(self) -> Path:
        """Folder of profiles (`probe.profile_store`)."""
        return self.folder / "profiles"

    def _adapter_path(self, subject: Subject) -> Path:
        return self.folder / "adapters" / f"{subject.key}.npz"

    def _pair_path(self, first: Subject, second: Subject) -> Path:
        return self.folder / "pairs" / first.key[:2] / f"{first.key}-{second.key}.npz"


def digest(facts: object) -> str:
    """Return a short hash of JSON values."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:KEY_LENGTH]


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Vector]] | None:
    """Read a file; None where it is missing or damaged, since it can be measured again."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return json.loads(str(arrays["facts"])), {name: arrays[name] for name in arrays.files if name != "facts"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, facts: Mapping[str, object], **arrays: Vector) -> None:
    named: dict[str, Any] = {"facts": np.array(json.dumps(facts)), **arrays}
    with replaced_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **named)
