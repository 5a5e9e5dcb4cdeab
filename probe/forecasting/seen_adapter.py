"""An adapter as far as it was seen: a bundle of early checkpoints, a checkpoint of a Trainer, or a finished adapter."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from probe.adapter_io import CONFIG_FILE, read_config, revision_of
from probe.bank.adapter_folder import BUNDLE_FOLDER, RECORD_FILE
from probe.bank.labelling.members import read_member
from probe.profiles import Metadata
from probe.records import MergeProbeError
from probe.rows import CALIBRATION_FILE
from probe.telemetry.bundle import BUNDLE_FILE, Bundle, read_bundle

FINISHED = 1.0
"""rho of an adapter whose training is over."""
TRAINER_STATE = "trainer_state.json"
"""Where a Trainer's checkpoint says how far it is."""


class ForecastingError(MergeProbeError):
    """An early forecast cannot be made."""


class NoCheckpointYet(ForecastingError):
    """A bundle holds no checkpoint so far."""


class NoKnownAdapter(ForecastingError):
    """There is nothing that an adapter could be merged with."""


@dataclass(frozen=True, slots=True)
class SeenState:
    """An adapter at a share of its training: its PEFT folder, and what was known of the training then."""

    rho: float
    folder: Path
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class SeenAdapter:
    """An adapter, and all that is there to tell how its training went.

    Attributes
    ----------
    name
        For people.
    revision
        Content hash of the latest state.
    states
        One or more, by rising share of training; the last one is the adapter as it is now.
    rows
        Calibration rows (JSONL); None without any.
    base_name
        Base model that it says it was trained on.
    is_protected
        Whether it is never merged.
    """

    name: str
    revision: str
    states: tuple[SeenState, ...]
    rows: Path | None
    base_name: str | None
    is_protected: bool = False

    @property
    def now(self) -> SeenState:
        """The latest state."""
        return self.states[-1]

    @property
    def rho(self) -> float:
        """Share of training seen, in (0, 1]."""
        return self.now.rho

    @property
    def domain(self) -> str | None:
        """What it is for; None is not known."""
        return self.now.metadata.domain


def read_candidate(
    source: Path, rows: Path | None = None, domain: str | None = None, rho: float | None = None
) -> SeenAdapter:
    """Read an adapter that may still be in training.

    Parameters
    ----------
    source
        A bundle of `MergeProbeCallback`, or a PEFT folder such as a Trainer's checkpoint.
    rows
        Calibration rows; None takes those of the bundle, or of the file ``calibration.jsonl`` in the folder, if any.
    domain
        What it is for; None takes what the bundle says.
    rho
        Share of training done, of a PEFT folder; None reads `TRAINER_STATE`, and without that the adapter is finished.

    Raises
    ------
    NoCheckpointYet
        The bundle's first checkpoint is still to come.
    ForecastingError
        `rho` is no share, or is given for a bundle, which knows its own.
    BundleError, AdapterError
        The folder is damaged, or neither of the two.
    """
    own_rows = source / CALIBRATION_FILE
    rows = rows or (own_rows if own_rows.is_file() else None)
    if rho is not None and not 0 < rho <= FINISHED:
        raise ForecastingError(f"rho is {rho:g}; expected the share of training done, in (0, 1].")
    if (source / BUNDLE_FILE).exists():
        if rho is not None:
            raise ForecastingError(f"{source} is a bundle, which says itself how far training is; leave out rho.")
        return _of_bundle(read_bundle(source), rows, domain)
    config = read_config(source)
    share = rho or _share_done(source / TRAINER_STATE)
    metadata = Metadata(domain=domain, rank=config.rank, scaling=config.scaling)
    state = SeenState(FINISHED if share is None else share, source, metadata)
    return SeenAdapter(source.resolve().name, revision_of(source), (state,), rows, config.base_name)


def read_known(folder: Path) -> SeenAdapter:
    """Read a finished adapter, with its early checkpoints and its record where a bank was built with them.

    Raises
    ------
    AdapterError, BundleError, BankError
        Its files are damaged.
    """
    config, rows = read_config(folder), folder / CALIBRATION_FILE
    told = Metadata(rank=config.rank, scaling=config.scaling)
    is_protected, early = False, tuple[SeenState, ...]()
    if (folder / RECORD_FILE).exists():
        record = read_member(folder).record
        is_protected = record.is_protected
        told = replace(
            told,
            domain=record.domain,
            num_rows=record.num_rows,
            learning_rate=record.learning_rate,
            num_steps=record.num_steps,
        )
    if (folder / BUNDLE_FOLDER / BUNDLE_FILE).exists():
        bundle = read_bundle(folder / BUNDLE_FOLDER)
        # The end of training knows no more than the last checkpoint told.
        early, told = tuple(state for state in _states(bundle) if state.rho < FINISHED), bundle.metadata()
    return SeenAdapter(
        name=folder.name,
        revision=revision_of(folder),
        states=(*early, SeenState(FINISHED, folder, told)),
        rows=rows if rows.is_file() else None,
        base_name=config.base_name,
        is_protected=is_protected,
    )


def read_known_bank(folder: Path) -> tuple[SeenAdapter, ...]:
    """Read the adapters in a folder's own folders, by name; of equal content the first one counts.

    Raises
    ------
    NoKnownAdapter
        There is none.
    AdapterError, BundleError, BankError
        Files of one are damaged.
    """
    places = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
    # A build that still runs keeps what is not finished under names with a dot.
    found = {one.revision: one for one in map(read_known, reversed([p for p in places if not p.name.startswith(".")]))}
    if not found:
        raise NoKnownAdapter(
            f"{folder} holds no folder with {CONFIG_FILE}; name a bank (mergeprobe bank build), or a folder of "
            "adapters that PEFT saved, each in a folder of its own."
        )
    return tuple(sorted(found.values(), key=lambda one: one.name))


def _of_bundle(bundle: Bundle, rows: Path | None, domain: str | None) -> SeenAdapter:
    states = _states(bundle)
    if not states:
        raise _no_checkpoint(bundle)
    if domain is not None:
        states = tuple(replace(one, metadata=replace(one.metadata, domain=domain)) for one in states)
    name = bundle.folder.resolve().name
    return SeenAdapter(name, revision_of(states[-1].folder), states, rows, bundle.record.base_name)


def _no_checkpoint(bundle: Bundle) -> NoCheckpointYet:
    from probe.telemetry.recorder import checkpoint_steps  # imports peft, which nothing else here needs

    num_steps = bundle.record.adapter.num_steps
    step, rho = min(checkpoint_steps(bundle.record.fractions, num_steps).items())
    return NoCheckpointYet(
        f"{bundle.folder} holds no checkpoint yet: the first one is due at {rho:.0%} of training, after step {step} of "
        f"{num_steps}; ask again then."
    )


def _states(bundle: Bundle) -> tuple[SeenState, ...]:
    return tuple(SeenState(one.rho, bundle.folder / one.folder, bundle.metadata(one.rho)) for one in bundle.checkpoints)


def _share_done(path: Path) -> float | None:
    """Return the share of training that a Trainer's checkpoint says; None where it says none."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        share = state["global_step"] / state["max_steps"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return float(share) if 0 < share <= FINISHED else None
