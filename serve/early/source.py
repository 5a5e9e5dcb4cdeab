"""The source of an early forecast, a bundle or a PEFT folder: copied and checked as a registration's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from probe.calibration import CalibrationError
from probe.forecasting.comparison import NothingLearntYet
from probe.forecasting.partners import OtherBase
from probe.forecasting.seen_adapter import (
    TRAINER_STATE,
    ForecastingError,
    NoCheckpointYet,
    NoKnownAdapter,
    SeenAdapter,
    read_candidate,
)
from probe.records import MergeProbeError
from probe.rows import CALIBRATION_FILE
from probe.telemetry.bundle import BUNDLE_FILE, CHECKPOINT_FOLDER, BundleError
from router.intake import IntakeError, Registration
from router.records import Adapter
from router.sources import ForbiddenSource, SourceAbsent, SourceError, SourceTooLarge, fetch_file
from router.store import Store
from serve.errors import HttpError
from serve.limited.task import NoRoom, TaskOutOfMemory, TaskTimedOut

MAX_CHECKPOINTS = 16
"""Of a bundle; the callback plans three."""
MAX_FILE_BYTES = 64 << 20
"""Of a bundle's record, and of a Trainer's state."""
SENT_FILE = "sent.jsonl"
"""Holds rows that came with the request."""
RETRY_SECONDS = 10
"""After which a client may ask again, where that helps."""


class ForecastBody(BaseModel):
    """Body of `POST /bank/forecast`.

    `source` is a bundle or a PEFT folder; `calibration` names a file as in a registration, or holds the rows
    themselves; without it the source's own rows are taken, if it has any.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    source: str
    calibration: str | list[dict[str, Any]] | None = None
    domain: str | None = None
    rho: Annotated[float, Field(gt=0, le=1)] | None = None


TakeIn = Callable[..., Adapter]
"""`router.intake.take_in` with this bank's base and limits: (registration, store=, roots=) -> adapter."""


@contextmanager
def refusals(source: str, staged: Path) -> Iterator[None]:
    """Turn errors about a staged copy into answers that speak of its source: clients cannot see staging."""
    try:
        yield
    except HttpError:
        raise
    except MergeProbeError as error:
        message = str(error)
        for copy, told in ((SENT_FILE, "the calibration"), ("bundle", source), ("", source)):
            message = message.replace(str(staged / copy), told)
        raise _refusal(error, message) from error


def _refusal(error: MergeProbeError, message: str) -> MergeProbeError:
    if isinstance(error, IntakeError):
        return IntakeError(message, error.field, error.kind)
    for kinds, refusal in REFUSALS:
        if isinstance(error, kinds):
            return refusal(message)
    return error


REFUSALS: tuple[tuple[tuple[type[MergeProbeError], ...], Callable[[str], MergeProbeError]], ...] = (
    ((ForbiddenSource,), lambda told: IntakeError(told, "source", "forbidden_source")),
    ((SourceTooLarge,), lambda told: IntakeError(told, "source", "too_large")),
    ((NoCheckpointYet, NothingLearntYet), lambda told: HttpError(409, told, "no_checkpoint_yet", "source")),
    ((NoKnownAdapter,), lambda told: HttpError(409, told, "nobody_to_merge_with")),
    ((OtherBase, CalibrationError), lambda told: IntakeError(told, "source", "incompatible")),
    ((SourceError, BundleError, ForecastingError), lambda told: IntakeError(told, "source", "malformed")),
    ((TaskOutOfMemory,), lambda told: HttpError(413, told, "too_large", "source")),
    ((NoRoom, TaskTimedOut), lambda told: HttpError(503, told, "not_ready", retry_after_seconds=RETRY_SECONDS)),
)
"""Errors -> what a client is told; the first row that fits, so that kinds of a kind come first."""


@dataclass(frozen=True, slots=True)
class Staging:
    """Copies and checks one source, checkpoint by checkpoint, as a registration's.

    Attributes
    ----------
    folder
        Takes the copies; whoever made it removes it.
    roots
        The folders that local sources may be in, this one among them.
    """

    folder: Path
    roots: tuple[Path, ...]
    take_in: TakeIn

    def stage(self, body: ForecastBody) -> SeenAdapter:
        """Return the adapter that a body names, from its copies.

        Raises
        ------
        IntakeError, SourceError, BundleError, ForecastingError
            It is refused.
        """
        source = body.source.rstrip("/")
        is_bundle = self._has(f"{source}/{BUNDLE_FILE}")
        place, rows = self._bundle(source, body) if is_bundle else self._checkpoint(source, body)
        candidate = read_candidate(place, rows, body.domain, body.rho)
        return replace(candidate, name=source.rsplit("/", 1)[-1])

    def _checkpoint(self, source: str, body: ForecastBody) -> tuple[Path, Path | None]:
        place, rows = self._taken(source, body, self._rows(source, body))
        if self._has(f"{source}/{TRAINER_STATE}"):
            fetch_file(f"{source}/{TRAINER_STATE}", place / TRAINER_STATE, self.roots, MAX_FILE_BYTES)
        return place, rows

    def _bundle(self, source: str, body: ForecastBody) -> tuple[Path, Path | None]:
        bundle, rows = self.folder / "bundle", None
        bundle.mkdir()
        fetch_file(f"{source}/{BUNDLE_FILE}", bundle / BUNDLE_FILE, self.roots, MAX_FILE_BYTES)
        row_source = self._rows(source, body)
        for name in _checkpoints(bundle / BUNDLE_FILE):
            place, rows = self._taken(f"{source}/{name}", body, row_source)
            place.rename(bundle / name)
        return bundle, rows

    def _taken(self, source: str, body: ForecastBody, rows: str | None) -> tuple[Path, Path | None]:
        store = Store(self.folder / "store")
        registration = Registration("forecast", source, domain=body.domain, calibration=rows)
        taken = self.take_in(registration, store=store, roots=self.roots)
        return store.adapter_path(taken.revision), store.rows_path(taken.calibration) if taken.calibration else None

    def _rows(self, source: str, body: ForecastBody) -> str | None:
        """Return where the rows are: as given, as sent, or beside the adapter."""
        if isinstance(body.calibration, list):
            sent = self.folder / SENT_FILE
            sent.write_text("".join(f"{json.dumps(row)}\n" for row in body.calibration), encoding="utf-8")
            return str(sent)
        if body.calibration is None and self._has(f"{source}/{CALIBRATION_FILE}"):
            return f"{source}/{CALIBRATION_FILE}"
        return body.calibration

    def _has(self, source: str) -> bool:
        """Say whether there is such a file."""
        try:
            fetch_file(source, self.folder / "seen", self.roots, MAX_FILE_BYTES)
        except SourceTooLarge:
            return True
        except SourceAbsent:
            return False
        return True


def _checkpoints(path: Path) -> list[str]:
    """Return the folders of a bundle's checkpoints; of a damaged record none, and reading it says what is wrong."""
    try:
        named = [one["folder"] for one in json.loads(path.read_text(encoding="utf-8"))["checkpoints"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    folders = [name for name in named if isinstance(name, str) and re.fullmatch(CHECKPOINT_FOLDER, name)]
    if len(folders) > MAX_CHECKPOINTS:
        message = f"The bundle has {len(folders)} checkpoints, at most {MAX_CHECKPOINTS} are allowed."
        raise IntakeError(message, "source", "too_large")
    return list(dict.fromkeys(folders))
