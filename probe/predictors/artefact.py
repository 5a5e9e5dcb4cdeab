"""A fitted predictor as a folder: models, calibration, schema and card; read without torch.

The folder holds::

    schema.json                what columns are read, and in which order
    wide_retention.json, wide_safety.json, narrow_retention.json, narrow_safety.json, gain.json
                               trees, in XGBoost's own format
    set_model.npz              weights of the set model, and how its inputs are standardised
    calibration.json           radii and temperatures of every view
    card.json                  facts and metrics, and the sha256 of every other file; written last
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from probe.predictors import calibration
from probe.predictors.calibration import Calibration
from probe.predictors.card import Card
from probe.predictors.forecast import PredictorError, SchemaMismatch
from probe.predictors.gain_model import GainModel
from probe.predictors.pair_model import PairModel, PairTrees
from probe.predictors.schema import Schema
from probe.predictors.set_inputs import SetReader
from probe.predictors.set_model import PARTS, SetModel
from probe.replacement import replaced_file
from probe.vectors import SCHEMA_VERSION, Standardisation

if TYPE_CHECKING:
    from xgboost import Booster

FORMAT_VERSION = 2
"""Raised with every change of the files that an older reader would misread."""

SCHEMA_FILE = "schema.json"
WIDE_FILES = ("wide_retention.json", "wide_safety.json")
NARROW_FILES = ("narrow_retention.json", "narrow_safety.json")
GAIN_FILE = "gain.json"
SETS_FILE = "set_model.npz"
CALIBRATION_FILE = "calibration.json"
CARD_FILE = "card.json"
TREE_FILES = (*WIDE_FILES, *NARROW_FILES, GAIN_FILE)

Read = TypeVar("Read")


class ArtefactMissing(PredictorError):
    """There is no predictor in a folder."""


class DamagedArtefact(PredictorError):
    """A file of a predictor is missing, or is not what was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Artefact:
    """Everything of a predictor.

    Attributes
    ----------
    gains
        None where no gain was known in fitting.
    alpha
        Share of labels that may fall below their bound.
    pair_calibration, set_calibration
        By view.
    """

    schema: Schema
    pairs: PairModel
    sets: SetModel
    gains: GainModel | None
    alpha: float
    pair_calibration: Calibration
    set_calibration: Calibration
    card: Card


def write_artefact(folder: Path, artefact: Artefact) -> None:
    """Write a predictor; a folder that was not written to the end is refused in reading."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        SCHEMA_FILE: _json({"format": FORMAT_VERSION} | artefact.schema.as_json()),
        **_tree_files(WIDE_FILES, artefact.pairs.wide),
        **_tree_files(NARROW_FILES, artefact.pairs.narrow),
        SETS_FILE: _sets_bytes(artefact.sets),
        CALIBRATION_FILE: _json(_calibration_fields(artefact)),
    }
    if artefact.gains is not None:
        files[GAIN_FILE] = bytes(artefact.gains.regressor.save_raw("json"))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    files[CARD_FILE] = _json(artefact.card.as_json() | {"files": hashes})
    for name, content in files.items():
        with replaced_file(folder / name) as partial:
            partial.write_bytes(content)


def _tree_files(names: tuple[str, str], trees: PairTrees | None) -> dict[str, bytes]:
    if trees is None:
        return {}
    return {
        name: bytes(one.save_raw("json")) for name, one in zip(names, (trees.regressor, trees.classifier), strict=True)
    }


def read_artefact(folder: Path) -> Artefact:
    """Read what `write_artefact` wrote.

    Raises
    ------
    ArtefactMissing
        The folder holds no predictor.
    DamagedArtefact
        A file is missing, or is not the one that was written.
    SchemaMismatch
        The predictor reads other columns than this version measures, or has another format.
    """
    if not (folder / CARD_FILE).is_file():
        raise ArtefactMissing(
            f"There is no predictor in {folder} (no {CARD_FILE}); fit one: mergeprobe fit RECORDS --out {folder}."
        )
    fields = _read(folder / CARD_FILE, (folder / CARD_FILE).read_bytes(), _object)
    files = _files(folder, fields.pop("files", None))
    schema = _schema(folder / SCHEMA_FILE, files[SCHEMA_FILE])
    trees = {name: _trees(folder / name, files[name]) for name in TREE_FILES if name in files}
    rest = _read(
        folder / CALIBRATION_FILE, files[CALIBRATION_FILE], lambda content: _rest(schema, _object(content), trees)
    )
    return Artefact(
        schema=schema,
        sets=_read(folder / SETS_FILE, files[SETS_FILE], lambda content: _sets(schema, content)),
        gains=GainModel(schema, trees[GAIN_FILE]) if GAIN_FILE in trees else None,
        card=_read(folder / CARD_FILE, b"", lambda _: Card.from_json(fields)),
        **rest,
    )


def _object(content: bytes) -> dict[str, Any]:
    """Read a JSON object."""
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, got {type(fields).__name__}")
    return fields


def _files(folder: Path, hashes: object) -> dict[str, bytes]:
    """Return the content of every file that the card names."""
    wanted = {SCHEMA_FILE, *WIDE_FILES, SETS_FILE, CALIBRATION_FILE}
    if not isinstance(hashes, dict) or not wanted <= set(hashes):
        raise DamagedArtefact(
            f"{folder / CARD_FILE} does not name the files {sorted(wanted)}; restore the folder, or fit again."
        )
    return {name: _checked(folder / name, seen) for name, seen in hashes.items()}


def _rest(schema: Schema, fields: Mapping[str, Any], trees: Mapping[str, Booster]) -> dict[str, Any]:
    """Return what `_calibration_fields` wrote, with the pair model that it completes."""
    wide, narrow = fields["wide"], fields["narrow"]
    return {
        "pairs": PairModel(
            wide=_pair_trees(wide, trees, WIDE_FILES),
            narrow=None if narrow is None else _pair_trees(narrow, trees, NARROW_FILES),
            kept_column=schema.kept_position,
        ),
        "alpha": float(fields["alpha"]),
        "pair_calibration": calibration.from_json(fields["pairs"]),
        "set_calibration": calibration.from_json(fields["sets"]),
    }


def _pair_trees(fields: Mapping[str, Any], trees: Mapping[str, Booster], names: tuple[str, str]) -> PairTrees:
    columns = np.array(fields["columns"], dtype=np.int64)
    regressor, classifier = (trees[name] for name in names)
    return PairTrees(columns, regressor, classifier, float(fields["log_odds_shift"]))


def _tree_fields(trees: PairTrees) -> dict[str, Any]:
    return {"columns": trees.columns.tolist(), "log_odds_shift": trees.log_odds_shift}


def _calibration_fields(artefact: Artefact) -> dict[str, Any]:
    pairs = artefact.pairs
    return {
        "alpha": artefact.alpha,
        "wide": _tree_fields(pairs.wide),
        "narrow": None if pairs.narrow is None else _tree_fields(pairs.narrow),
        "pairs": calibration.as_json(artefact.pair_calibration),
        "sets": calibration.as_json(artefact.set_calibration),
    }


def _json(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _checked(path: Path, wanted: str) -> bytes:
    """Return the content of a file that is what was written."""
    if not path.is_file():
        raise DamagedArtefact(f"{path} is missing; restore the folder, or fit again (mergeprobe fit).")
    content = path.read_bytes()
    seen = hashlib.sha256(content).hexdigest()
    if seen != wanted:
        raise DamagedArtefact(
            f"{path} has the sha256 {seen[:12]}, {CARD_FILE} says {wanted[:12]}; restore the folder, or fit again."
        )
    return content


def _read(path: Path, content: bytes, read: Callable[[bytes], Read]) -> Read:
    """Read the content of a file; what makes no sense is damage."""
    try:
        return read(content)
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedArtefact(f"{path} cannot be read ({error!r}); restore the folder, or fit again.") from error


def _schema(path: Path, content: bytes) -> Schema:
    fields = _read(path, content, _object)
    seen = fields.pop("format", None), fields.get("version")
    if seen != (FORMAT_VERSION, SCHEMA_VERSION):
        raise SchemaMismatch(
            f"{path} has format {seen[0]} and feature schema {seen[1]}, this version reads format {FORMAT_VERSION} and "
            f"measures feature schema {SCHEMA_VERSION}; fit again with this version (mergeprobe fit RECORDS)."
        )
    return _read(path, content, lambda _: Schema.from_json(fields))


def _trees(path: Path, content: bytes) -> Booster:
    import xgboost  # takes pandas and scikit-learn with it: only where a predictor is really read

    try:
        return xgboost.Booster(model_file=bytearray(content))
    except xgboost.core.XGBoostError as error:
        raise DamagedArtefact(f"{path} holds no trees ({error}); restore the folder, or fit again.") from error


def _sets_bytes(sets: SetModel) -> bytes:
    arrays = {f"layer {name}": value for name, value in sets.layers.items()}
    for part, standard in sets.standards.items():
        arrays |= {f"centre {part}": standard.centre, f"spread {part}": standard.spread}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes a bool option for any name
    return buffer.getvalue()


def _sets(schema: Schema, content: bytes) -> SetModel:
    arrays = dict(np.load(io.BytesIO(content)))
    layers = {name.removeprefix("layer "): value for name, value in arrays.items() if name.startswith("layer ")}
    standards = {part: Standardisation(arrays[f"centre {part}"], arrays[f"spread {part}"]) for part in PARTS if layers}
    return SetModel(SetReader(schema), standards, layers)
