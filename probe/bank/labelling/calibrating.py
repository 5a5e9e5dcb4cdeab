"""Calibrated profiles of adapters and of their checkpoints, on the first rows of an adapter's calibration set."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from probe.bank.labelling.members import Member
from probe.bank.labelling.pair_plan import FINAL
from probe.bank.labelling.workplace import Workplace
from probe.features import Trajectory
from probe.profiles import AdapterProfile, Metadata
from probe.profiling import Profiler
from probe.rows import first_rows
from probe.telemetry.bundle import read_bundle

NUM_KEPT = 16
"""Profiles that a process keeps in memory: those of the first adapter of the pairs it compares, and of the second."""


def calibration_profile(profiler: Profiler, folder: Path, member: Member, num_rows: int) -> AdapterProfile:
    """Return the profile of an adapter folder, calibrated on the first rows of a member's calibration set.

    Parameters
    ----------
    folder
        The member's own, or one of its checkpoints.
    """
    return profiler.profile(folder, first_rows(member.calibration, num_rows, profiler.store.folder))


def fractions(member: Member) -> tuple[float, ...]:
    """Return the shares of training at which a member is known, ascending; the last one is 1."""
    early = () if member.bundle is None else tuple(one.rho for one in read_bundle(member.bundle).checkpoints)
    return (*(rho for rho in early if rho < FINAL), FINAL)


def adapter_folder(member: Member, rho: float) -> Path:
    """Return the folder of a member as it was at a share of training."""
    if rho == FINAL or member.bundle is None:
        return member.folder
    bundle = read_bundle(member.bundle)
    return bundle.folder / bundle.checkpoint(rho).folder


def trajectory(place: Workplace, member: Member, rho: float) -> Trajectory:
    """Return what was known of a member at a share of training: nothing of what came later."""
    seen = tuple(share for share in fractions(member) if share <= rho)
    return Trajectory(seen, tuple(_profile_at(place, member, share) for share in seen))


@lru_cache(maxsize=NUM_KEPT)
def _profile_at(place: Workplace, member: Member, rho: float) -> AdapterProfile:
    """Return the profile of a member as it was at a share of training."""
    folder, num_rows = adapter_folder(member, rho), place.spec.calibration_rows
    profile = calibration_profile(profiler_of(place), folder, member, num_rows)
    return replace(profile, metadata=_metadata(member, rho))


@lru_cache(maxsize=1)
def profiler_of(place: Workplace) -> Profiler:
    """Return this process's profiler; the model is loaded once."""
    return place.profiler()


def _metadata(member: Member, rho: float) -> Metadata:
    """Return what was known of the training at a share of it; the end knows no more than the last checkpoint."""
    if member.bundle is None:
        record = member.record
        return Metadata(
            domain=record.domain,
            num_rows=record.num_rows,
            rank=record.rank,
            scaling=record.alpha / record.rank,
            learning_rate=record.learning_rate,
            num_steps=record.num_steps,
        )
    return read_bundle(member.bundle).metadata(None if rho == FINAL else rho)
