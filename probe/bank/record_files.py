"""Records on disk: Parquet (zstd) and one JSON file; equal records give equal bytes.

`Label`, `AdapterRecord` and `FeatureRow` say what the columns mean. Columns of `labels.parquet` beyond those of `Label`
follow from them and are there for readers without this package; `read_records` leaves them out (`DERIVED`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probe.bank.ceilings import Ceilings
from probe.bank.measuring import LIKELIHOOD_DIGITS, SCORE_DIGITS
from probe.bank.records import (
    SCHEMA_VERSION,
    AdapterRecord,
    Facts,
    FeatureRow,
    Label,
    Records,
    RecordsError,
    apart_from_guests,
)
from probe.replacement import replaced_file
from probe.retention import standard_error

SHIPPED_RECORDS = Path(__file__).parent / "data" / "records"
"""The records that come with the package."""
SHIPPED_HELD_OUT = SHIPPED_RECORDS.with_name("held-out")
"""Those of adapters that the shipped predictor was not fitted on."""

FACTS_FILE = "facts.json"
ADAPTERS_FILE = "adapters.parquet"
LABELS_FILE = "labels.parquet"
ADAPTER_FEATURES_FILE = "adapter_features.parquet"
PAIR_FEATURES_FILE = "pair_features.parquet"

_ADAPTER_KEYS = {"adapter": "rho"}
_PAIR_KEYS = {"first": "rho_first", "second": "rho_second"}
"""Columns of the names of `FeatureRow`, and of each one's share of training."""

_TEXTS = pa.list_(pa.string())
_SCORES = pa.list_(pa.float32())
_TO_TEXT = pa.map_(pa.string(), pa.string())
_TO_NUMBER = pa.map_(pa.string(), pa.float64())

_ADAPTER = pa.schema(
    {
        "name": pa.string(),
        "domain": pa.string(),
        "mix": pa.string(),
        "method": pa.string(),
        "group": pa.string(),
        "rank": pa.int32(),
        "modules": pa.string(),
        "alpha": pa.int32(),
        "learning_rate": pa.float64(),
        "num_rows": pa.int32(),
        "num_tokens": pa.int64(),
        "num_steps": pa.int32(),
        "replay": pa.float64(),
        "a_seed": pa.int64(),
        "data_seed": pa.int64(),
        "is_protected": pa.bool_(),
        "revision": pa.string(),
        "minutes": pa.float64(),
        "command": pa.string(),
        "device": pa.string(),
        "precision": pa.string(),
        "versions": _TO_TEXT,
        "row_set": pa.string(),
    }
)
_LABEL = pa.schema(
    {
        "members": _TEXTS,
        "adapter": pa.string(),
        "action": pa.string(),
        "operator": pa.string(),
        "weights": pa.list_(pa.float64()),
        "pruned": pa.string(),
        "norm": pa.string(),
        "hyper_parameters": _TO_NUMBER,
        "seed": pa.int64(),
        "rank": pa.int32(),
        "base_scores": _SCORES,
        "single_scores": _SCORES,
        "merged_scores": _SCORES,
        "base_log_likelihoods": _SCORES,
        "single_log_likelihoods": _SCORES,
        "merged_log_likelihoods": _SCORES,
        "kept_energy": pa.float64(),
        "norm_ratio": pa.float64(),
        "seconds": pa.float64(),
    }
)


def _ratio_error(label: Label) -> float:
    """Return the standard error of U_merged / U_single over paired rows, by the delta method."""
    single = math.fsum(label.single_scores) / label.num_rows
    ratio = label.normalised_accuracy
    rest = [m - ratio * s for m, s in zip(label.merged_scores, label.single_scores, strict=True)]
    return standard_error(rest) / single if single > 0 else math.nan


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


DERIVED: Mapping[str, tuple[str, Callable[[Label, Ceilings], float]]] = {
    "num_rows": ("evaluation rows, n", lambda label, _: label.num_rows),
    "is_sound": (
        "1 if the gain is 2 standard errors or more; leave 0 out",
        lambda label, _: label.is_sound,
    ),
    "base": ("U_i(0), mean score of the base", lambda label, _: _mean(label.base_scores)),
    "base_se": ("its standard error", lambda label, _: standard_error(label.base_scores)),
    "single": ("U_i(phi_i), mean score of the adapter alone", lambda label, _: _mean(label.single_scores)),
    "single_se": ("its standard error", lambda label, _: standard_error(label.single_scores)),
    "merged": ("U_i(Merge(S)), mean score of the module", lambda label, _: _mean(label.merged_scores)),
    "merged_se": ("its standard error", lambda label, _: standard_error(label.merged_scores)),
    "gain": ("single - base", lambda label, _: label.gain.value),
    "gain_se": ("its standard error, paired", lambda label, _: label.gain.standard_error),
    "retention": ("Ret of Eq. 2, never clipped; NaN without a positive gain", lambda label, _: label.retention.value),
    "retention_se": ("its standard error, paired, delta method", lambda label, _: label.retention.standard_error),
    "retention_lower": ("one-sided 90 % lower bound (Fieller)", lambda label, _: label.retention.lower_bound),
    "normalised_accuracy": ("merged / single", lambda label, _: label.normalised_accuracy),
    "normalised_accuracy_se": ("its standard error, paired, delta method", lambda label, _: _ratio_error(label)),
    "ceiling": ("U*_i, best single adapter on these rows", lambda label, known: known.best(label.adapter)),
    "normalised_gain": ("G_i of Eq. 1", lambda label, known: known.normalised_gain(label.adapter)),
    "base_log_likelihood": ("mean over rows, nats a token", lambda label, _: _mean(label.base_log_likelihoods)),
    "single_log_likelihood": ("mean over rows, nats a token", lambda label, _: _mean(label.single_log_likelihoods)),
    "merged_log_likelihood": ("mean over rows, nats a token", lambda label, _: _mean(label.merged_log_likelihoods)),
    "log_likelihood_retention": ("Ret with the log-likelihood", lambda label, _: label.log_likelihood_retention.value),
    "log_likelihood_retention_se": (
        "its standard error, paired",
        lambda label, _: label.log_likelihood_retention.standard_error,
    ),
}
"""Column -> what it says, and how it follows from a label."""


class UnknownRecordsVersion(RecordsError):
    """Records follow another version of the schema."""


def write_records(folder: Path, records: Records) -> None:
    """Write records into a folder, each file by one rename, so that a reader never sees half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / ADAPTERS_FILE, pa.Table.from_pylist([_plain(a) for a in records.adapters], _ADAPTER))
    _write_table(folder / LABELS_FILE, _label_table(records))
    _write_table(folder / ADAPTER_FEATURES_FILE, _feature_table(records.adapter_features, _ADAPTER_KEYS))
    _write_table(folder / PAIR_FEATURES_FILE, _feature_table(records.pair_features, _PAIR_KEYS))
    write_text(
        folder / FACTS_FILE, json.dumps({"schema_version": SCHEMA_VERSION} | asdict(records.facts), indent=2) + "\n"
    )


def read_records(folder: Path) -> Records:
    """Read what `write_records` wrote.

    Raises
    ------
    UnknownRecordsVersion
        The records follow another schema version than this MergeProbe reads.
    RecordsError
        A file is missing or damaged.
    """
    facts = _read_facts(folder / FACTS_FILE)
    try:
        labels, guests = apart_from_guests(_label(row) for row in _rows(folder / LABELS_FILE, _LABEL.names))
        return Records(
            facts=facts,
            adapters=tuple(_adapter(row) for row in _rows(folder / ADAPTERS_FILE)),
            labels=labels,
            guests=guests,
            adapter_features=_features(folder / ADAPTER_FEATURES_FILE, _ADAPTER_KEYS),
            pair_features=_features(folder / PAIR_FEATURES_FILE, _PAIR_KEYS),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise RecordsError(
            f"{folder} holds damaged records ({error}); restore them, or label the bank again."
        ) from error


def _write_table(path: Path, table: pa.Table) -> None:
    with replaced_file(path) as partial:
        pq.write_table(table, partial, compression="zstd", compression_level=9)


def write_text(path: Path, text: str) -> None:
    """Write a text file by one rename, readable for all."""
    with replaced_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _plain(row: AdapterRecord | Label) -> dict[str, Any]:
    """Return a record's own fields; maps become sorted pairs, as Parquet has them."""
    schema = _ADAPTER if isinstance(row, AdapterRecord) else _LABEL
    return {f.name: _value(getattr(row, f.name), f.type) for f in schema}


def _value(value: Any, kind: pa.DataType) -> Any:
    return sorted(value.items()) if pa.types.is_map(kind) else value


def _label_table(records: Records) -> pa.Table:
    ceilings = Ceilings(records)
    schema = _LABEL
    for name in DERIVED:
        schema = schema.append(pa.field(name, pa.float64()))
    rows = [
        _plain(label) | {name: float(derive(label, ceilings)) for name, (_, derive) in DERIVED.items()}
        for label in (*records.labels, *records.guests)
    ]
    return pa.Table.from_pylist(rows, schema)


def _feature_table(rows: Sequence[FeatureRow], keys: Mapping[str, str]) -> pa.Table:
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    parts = {name: pa.array([row.names[place] for row in rows], pa.string()) for place, name in enumerate(keys)}
    parts |= {rho: pa.array([row.rhos[place] for row in rows], pa.float64()) for place, rho in enumerate(keys.values())}
    for column in columns:
        parts[column] = pa.array([row.values.get(column, math.nan) for row in rows], pa.float32())
    return pa.table(parts)


def _read_facts(path: Path) -> Facts:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        seen = fields.pop("schema_version")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RecordsError(
            f"{path} is no record of a bank ({error!r}); expected a folder that `mergeprobe bank label --out` wrote."
        ) from error
    if seen != SCHEMA_VERSION:
        raise UnknownRecordsVersion(
            f"{path} follows schema version {seen}, but this MergeProbe reads version {SCHEMA_VERSION}; "
            "label the bank again with this one, or use the version that wrote it."
        )
    return Facts(**fields | {"commands": tuple(fields["commands"]), "pilot": tuple(fields["pilot"])})


def _rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    return rows


def _adapter(row: Mapping[str, Any]) -> AdapterRecord:
    return AdapterRecord(**{**row, "versions": dict(row["versions"])})


def _label(row: Mapping[str, Any]) -> Label:
    fields = dict(row)
    for name, digits in (("scores", SCORE_DIGITS), ("log_likelihoods", LIKELIHOOD_DIGITS)):
        for who in ("base", "single", "merged"):
            fields[f"{who}_{name}"] = tuple(round(value, digits) for value in row[f"{who}_{name}"])
    fields["members"] = tuple(row["members"])
    fields["weights"] = None if row["weights"] is None else tuple(row["weights"])
    fields["hyper_parameters"] = dict(row["hyper_parameters"])
    return Label(**fields)


def _features(path: Path, keys: Mapping[str, str]) -> tuple[FeatureRow, ...]:
    table = pq.read_table(path)
    names, rhos = (zip(*(table[key].to_pylist() for key in group), strict=True) for group in (keys, keys.values()))
    columns = [column for column in table.column_names if column not in (*keys, *keys.values())]
    values = np.array([table[column].to_numpy() for column in columns], dtype=np.float64).T
    return tuple(
        FeatureRow(own, shares, dict(zip(columns, map(float, row), strict=True)))
        for own, shares, row in zip(names, rhos, values, strict=True)
    )
