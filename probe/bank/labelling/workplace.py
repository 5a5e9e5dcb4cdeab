"""Where a bank is measured, by how much: what every process of the work is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probe.bank.labelling.plan import LabelPlan
from probe.profile_store import ProfileStore
from probe.profiling import Profiler


@dataclass(frozen=True, slots=True)
class Workplace:
    """Folders, device and plan; the same in every process.

    Attributes
    ----------
    bank
        Folder of the adapters.
    work
        Folder of journals and profiles.
    base
        Folder of the base model.
    device
        Torch device.
    """

    bank: Path
    work: Path
    base: Path
    device: str
    spec: LabelPlan

    def profiler(self) -> Profiler:
        """Return a profiler that keeps its profiles here."""
        return Profiler(ProfileStore(self.work / "profiles"), lambda: self.base, self.device)
