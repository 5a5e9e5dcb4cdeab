"""Intake: copy an adapter into staging, check everything, then keep it. A refused adapter leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probe.adapter_io import AdapterError, read_adapter, revision_of
from probe.base_model import BaseShapes
from probe.records import MergeProbeError
from probe.rows import Answer, Row, RowError, read_rows
from probe.scoring import ScoringError, grade_all
from router.records import BASE, Adapter
from router.sources import ForbiddenSource, PickledWeights, SourceError, SourceTooLarge, fetch, fetch_file
from router.store import Store

Kind = Literal["malformed", "too_large", "incompatible", "forbidden_source"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MODULE_PREFIXES = ("separate-", "merged-")
MAX_DOMAIN_LENGTH = 63
MIN_EVALUATION_ROWS = 2
"""One for the gate, one for the report: the two must not share a row."""


class IntakeError(MergeProbeError):
    """A registration is refused.

    Attributes
    ----------
    field
        What is wrong: a field of the request ("name"), of the config ("adapter_config.r"), or "tensors".
    kind
        Whether the request is malformed, its content too large or incompatible with this bank, or its source
        forbidden.
    """

    def __init__(self, message: str, field: str, kind: Kind) -> None:
        super().__init__(message, field, kind)  # all three, so that the error survives pickling between processes
        self.field = field
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Limits:
    """What one adapter may cost: bytes of its files, rows, and the highest rank that the engine serves."""

    max_adapter_bytes: int = 2 << 30
    max_rows: int = 256
    max_evaluation_rows: int = 2000
    max_row_file_bytes: int = 64 << 20
    max_rank: int = 64


@dataclass(frozen=True, slots=True)
class Registration:
    """What a client asks for: a name, where the adapter is, and where its row files are (sources as text)."""

    name: str
    source: str
    domain: str | None = None
    protected: bool = False
    calibration: str | None = None
    evaluation: str | None = None


def take_in(
    registration: Registration, store: Store, base: BaseShapes, limits: Limits, roots: tuple[Path, ...]
) -> Adapter:
    """Copy, check and keep an adapter with its rows.

    Parameters
    ----------
    roots
        The folders that local sources may be in.

    Returns
    -------
    Adapter
        Not yet registered: it has no `registered_at`.

    Raises
    ------
    IntakeError
        Says what is refused and why; the store is as it was before.
    """
    check_name(registration.name, base)
    _check_domain(registration.domain)
    with store.staging() as staging:
        folder = staging / "adapter"
        with _refusals("source", registration.source, folder):
            fetch(registration.source, folder, roots, limits.max_adapter_bytes)
            update = read_adapter(folder, base, limits.max_rank)
            revision = revision_of(folder)
        intake = _RowIntake(staging, roots, limits.max_row_file_bytes)
        calibration = intake.stage("calibration", registration.calibration, 1, limits.max_rows)
        evaluation = intake.stage(
            "evaluation", registration.evaluation, MIN_EVALUATION_ROWS, limits.max_evaluation_rows
        )
        # Everything is checked: from here on nothing is refused.
        store.keep_adapter(folder, revision)
        return Adapter(
            name=registration.name,
            revision=revision,
            source=registration.source,
            rank=update.rank,
            num_bytes=update.num_bytes,
            domain=registration.domain,
            protected=registration.protected,
            calibration=store.keep_rows(calibration) if calibration else None,
            evaluation=store.keep_rows(evaluation) if evaluation else None,
        )


def check_name(name: str, base: BaseShapes) -> None:
    """Refuse a name that no adapter may have.

    Raises
    ------
    IntakeError
        It has other characters than allowed, or means the base model or a module.
    """
    if NAME.fullmatch(name) is None:
        expected = "1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit"
        raise IntakeError(f"Name {name!r} is not allowed; expected {expected}.", "name", "malformed")
    if name.casefold() == BASE or base.accepts(name):
        raise IntakeError(f"Name {name!r} means the base model; choose another.", "name", "malformed")
    if name.casefold().startswith(MODULE_PREFIXES):
        prefixes = " and ".join(MODULE_PREFIXES)
        raise IntakeError(f"Name {name!r}: {prefixes} begin names of modules; choose another.", "name", "malformed")


def _check_domain(domain: str | None) -> None:
    if domain is not None and not (domain.isprintable() and 0 < len(domain) <= MAX_DOMAIN_LENGTH):
        expected = f"1 to {MAX_DOMAIN_LENGTH} printable characters"
        raise IntakeError(f"Domain {domain!r} is not allowed; expected {expected}.", "domain", "malformed")


@dataclass(frozen=True, slots=True)
class _RowIntake:
    """Copies row files into staging and checks them."""

    staging: Path
    roots: tuple[Path, ...]
    max_bytes: int

    def stage(self, field: str, source: str | None, min_rows: int, max_rows: int) -> Path | None:
        """Return the staged file of a request field, or None where the field is not given."""
        if source is None:
            return None
        staged = self.staging / f"{field}.jsonl"
        with _refusals(field, source, staged):
            fetch_file(source, staged, self.roots, self.max_bytes)
            # Counted first: more rows than allowed is another refusal than a row that cannot be read.
            num_rows = _num_rows(staged)
            if num_rows > max_rows:
                raise IntakeError(f"{source} has {num_rows} rows, at most {max_rows} are allowed.", field, "too_large")
            _check_grading(read_rows(staged))
        if num_rows < min_rows:
            raise IntakeError(f"{source} has {num_rows} rows, expected {min_rows} or more.", field, "malformed")
        return staged


def _check_grading(rows: Sequence[Row]) -> None:
    """Grade some answer, so that a check which cannot be carried out is refused now and not found by the controller."""
    generated = [row for row in rows if row.scorer == "generated"]
    try:
        grade_all(generated, [Answer(text="x")] * len(generated))
    except (TypeError, ValueError, AttributeError) as error:
        raise ScoringError(f"the argument of a check is of the wrong kind: {error}") from error


def _num_rows(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


@contextmanager
def _refusals(field: str, source: str, staged: Path) -> Iterator[None]:
    """Turn errors about a staged copy into refusals that speak of its source: clients cannot see staging."""
    try:
        yield
    except ForbiddenSource as error:
        raise IntakeError(str(error), field, "forbidden_source") from error
    except SourceTooLarge as error:
        raise IntakeError(str(error), field, "too_large") from error
    except PickledWeights as error:
        raise IntakeError(str(error), "tensors", "incompatible") from error
    except SourceError as error:
        raise IntakeError(str(error), field, "malformed") from error
    except AdapterError as error:
        raise IntakeError(str(error).replace(str(staged), source), error.field, "incompatible") from error
    except (RowError, ScoringError) as error:
        raise IntakeError(str(error).replace(str(staged), source), field, "malformed") from error
    except RecursionError as error:
        raise IntakeError(f"{source} nests brackets too deeply; expected plain rows.", field, "malformed") from error
