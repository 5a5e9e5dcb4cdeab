"""Records -> rows that predictors, and what they are compared with, are fitted to and measured on.

A label is seen in several states of knowledge: one row each, which share the label's weight of 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from probe.bank.records import Records
from probe.features import ADAPTER_COLUMNS, DIRECTED_COLUMNS, SYMMETRIC_COLUMNS, Column
from probe.operators import OPERATORS, Norm
from probe.predictors.design import Matrix, Side, design, missing_of, sides_of
from probe.predictors.forecast import Evidence, Merge, SchemaMismatch
from probe.predictors.known_features import KnownFeatures, Rhos, newcomer_of
from probe.predictors.labelled_merges import LabelledMerge, labelled_merges
from probe.predictors.schema import Missing, Schema, SignalColumn
from probe.signals import ADAPTER_SIGNALS, PAIR_SIGNALS, AdapterSignal, Family, PairSignal
from probe.vectors import SCHEMA_VERSION, Vector

PAIRS_WITHOUT_FEATURES = "labels of pairs without features"
SETS_WITHOUT_FEATURES = "labels of sets without features"
INCOMPLETE = "labels of sets of which a member has no sound label"
"""Further reasons why labels are left out."""

Names = NDArray[np.str_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PairRows:
    """Ordered pairs, victim first; all are (rows,) but the design.

    Attributes
    ----------
    design
        (rows, columns of `Schema.columns`), float32, NaN where unknown.
    retention
        Ret of the victim, never clipped.
    is_safe, is_side_safe
        1 or 0, of the whole merge and of the victim's side; NaN where it is not known.
    label, merge
        Rows of one number are one label (module) in several states of knowledge, or one module.
    rho_victim, rho_other
        Share of training seen.
    newcomer
        The member that counts as new where one must be chosen.
    missing
        What was not measured.
    left_out
        Reason -> labels that are not among the rows; the first reasons are those of all merges.
    """

    design: Matrix
    retention: Vector
    is_safe: Vector
    is_side_safe: Vector
    label: Numbers
    merge: Numbers
    victim: Names
    other: Names
    operator: Names
    action: Names
    rho_victim: Vector
    rho_other: Vector
    newcomer: Names
    missing: tuple[Missing, ...]
    left_out: Mapping[str, int]

    @property
    def num_labels(self) -> int:
        """Labels that the rows are of."""
        return len(np.unique(self.label))

    @property
    def is_finished(self) -> NDArray[np.bool_]:
        """(rows,), whether both were seen to the end."""
        return (self.rho_victim >= 1) & (self.rho_other >= 1)


@dataclass(frozen=True, slots=True, eq=False)
class SetRow:
    """A merge of three or more in one state of knowledge; fields are as those of `PairRows` and `LabelledMerge`."""

    merge: Merge
    evidence: Evidence
    rhos: Rhos
    missing: Missing
    newcomer: str
    retention: tuple[float, ...]
    is_safe: bool | None
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class SetRows:
    """All set rows of records, and reason -> labels that are not among them."""

    rows: tuple[SetRow, ...]
    left_out: Mapping[str, int]


def schema_of(records: Records, families: Collection[Family] = frozenset(Family)) -> Schema:
    """Return the schema of features as this version measures them.

    Raises
    ------
    SchemaMismatch
        The records' features were measured with another version.
    """
    if records.facts.feature_schema != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"The records hold features of schema version {records.facts.feature_schema}, this version measures "
            f"{SCHEMA_VERSION}; label the bank again (mergeprobe bank label), or use the version that wrote them."
        )
    return Schema(
        version=SCHEMA_VERSION,
        adapter=_described(ADAPTER_COLUMNS),
        directed=_described(DIRECTED_COLUMNS),
        symmetric=_described(SYMMETRIC_COLUMNS),
        operators={key: operator.norm for key, operator in OPERATORS.items()},
        norms=get_args(Norm),
        families=frozenset(family.value for family in families),
    )


def _described(columns: Sequence[Column]) -> tuple[SignalColumn, ...]:
    signals: dict[str, AdapterSignal | PairSignal] = {**ADAPTER_SIGNALS, **PAIR_SIGNALS}
    return tuple(
        SignalColumn(one.name, one.family.value, frozenset(need.name.lower() for need in signals[one.signal].needs))
        for one in columns
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One label in one state of knowledge."""

    side: Side
    retention: float
    is_safe: float
    is_side_safe: float
    label: int
    merge: int
    victim: str
    other: str
    operator: str
    action: str
    newcomer: str
    missing: Missing


def pair_rows(records: Records, schema: Schema, seed: int = 0) -> PairRows:
    """Return the rows of all merges of two.

    Parameters
    ----------
    seed
        Of the draw of newcomers.
    """
    merges, left_out = labelled_merges(records)
    known = KnownFeatures(records)
    seen: list[_Seen] = []
    for number, labelled in enumerate(merges):
        if len(labelled.merge.members) == 2:
            found = list(_pair_states(labelled, number, known, schema, seed))
            left_out[PAIRS_WITHOUT_FEATURES] += 0 if found else sum(ret is not None for ret in labelled.retention)
            seen += found
    return PairRows(
        design=design(schema, [one.side for one in seen]),
        retention=np.array([one.retention for one in seen], dtype=np.float64),
        is_safe=np.array([one.is_safe for one in seen], dtype=np.float64),
        is_side_safe=np.array([one.is_side_safe for one in seen], dtype=np.float64),
        label=np.array([one.label for one in seen], dtype=np.int64),
        merge=np.array([one.merge for one in seen], dtype=np.int64),
        victim=np.array([one.victim for one in seen], dtype=np.str_),
        other=np.array([one.other for one in seen], dtype=np.str_),
        operator=np.array([one.operator for one in seen], dtype=np.str_),
        action=np.array([one.action for one in seen], dtype=np.str_),
        rho_victim=np.array([one.side.victim.rho for one in seen], dtype=np.float64),
        rho_other=np.array([one.side.other.rho for one in seen], dtype=np.float64),
        newcomer=np.array([one.newcomer for one in seen], dtype=np.str_),
        missing=tuple(one.missing for one in seen),
        left_out=+left_out,
    )


def _pair_states(
    labelled: LabelledMerge, number: int, known: KnownFeatures, schema: Schema, seed: int
) -> Iterator[_Seen]:
    merge = labelled.merge
    sides = labelled.safe_sides
    for _, evidence in known.states(merge.members):
        missing = missing_of(schema, evidence)
        for (i, j), side in sides_of(merge, evidence):
            ret = labelled.retention[i]
            if ret is not None:
                yield _Seen(
                    side=side,
                    retention=ret,
                    is_safe=math.nan if sides is None else float(all(sides)),
                    is_side_safe=math.nan if sides is None else float(sides[i]),
                    label=2 * number + i,
                    merge=number,
                    victim=merge.members[i],
                    other=merge.members[j],
                    operator=merge.recipe.operator,
                    action=merge.recipe.action,
                    newcomer=newcomer_of(merge.members, seed),
                    missing=missing,
                )


def set_rows(records: Records, schema: Schema, seed: int = 0) -> SetRows:
    """Return the rows of all merges of three or more of which every member has a sound label."""
    merges, left_out = labelled_merges(records)
    known, rows = KnownFeatures(records), list[SetRow]()
    for number, labelled in enumerate(merges):
        if len(labelled.merge.members) == 2:
            continue
        kept = tuple(ret for ret in labelled.retention if ret is not None)
        if len(kept) < len(labelled.retention):
            left_out[INCOMPLETE] += len(kept)
            continue
        found = list(_set_states(labelled, number, kept, known, schema, seed))
        left_out[SETS_WITHOUT_FEATURES] += 0 if found else len(kept)
        rows += found
    return SetRows(tuple(rows), +left_out)


def _set_states(
    labelled: LabelledMerge,
    number: int,
    kept: tuple[float, ...],
    known: KnownFeatures,
    schema: Schema,
    seed: int,
) -> Iterator[SetRow]:
    newcomer = newcomer_of(labelled.merge.members, seed)
    for rhos, evidence in known.states(labelled.merge.members, newcomer):
        missing = missing_of(schema, evidence)
        yield SetRow(labelled.merge, evidence, rhos, missing, newcomer, kept, labelled.is_safe, number)
