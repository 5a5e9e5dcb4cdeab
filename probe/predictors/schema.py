"""Which columns a predictor reads, in which order: written into its artefact, so that reading it needs no torch.

A row is an ordered pair under a recipe: the pair vector of `probe.vectors.pair_vector`, the victim first, then the
recipe's columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.layers import BANDS

RECIPE = "recipe"
"""Family of the columns that say how is merged."""
RANK_COLUMN = "rank/all/value"
"""Column of an adapter that is its declared rank."""
KEPT_COLUMNS = ("loss_kept_sum/all/value", "loss_kept_mean/all/value")
"""Columns of a direction: what the second keeps of its own gain beside the first, both whole, and half of each."""
KEPT = "loss kept at the recipe's strength"
"""Column of the recipe that lies between those two, where the recipe does."""
LOSS = "loss"
"""Family of these columns."""
MISSING_SHARE = 0.5
"""Share of the columns of one need that are NaN, from which on the need counts as not measured."""

METADATA, CALIBRATION, CROSS_TASK = "metadata", "calibration", "cross_task"
Missing = frozenset[str]
"""Needs of signals that were not measured."""

SIGNALS: Mapping[str, Missing] = {
    "all signals": frozenset(),
    "no cross-task": frozenset({CROSS_TASK}),
    "no metadata": frozenset({METADATA}),
    "no cross-task, no metadata": frozenset({CROSS_TASK, METADATA}),
    "no calibration": frozenset({CALIBRATION, CROSS_TASK}),
    "weights only": frozenset({CALIBRATION, CROSS_TASK, METADATA}),
}
"""What may be known of a merge -> needs that are missing; cross-task signals are measured on calibration rows, so go
with them."""


@dataclass(frozen=True, slots=True)
class SignalColumn:
    """One column: its name, its signal's family, and what it is measured from (`probe.signals.Need`, lower case)."""

    name: str
    family: str
    needs: frozenset[str]

    def prefixed(self, block: str) -> SignalColumn:
        """Return the column as it is called within a block of the pair vector."""
        return SignalColumn(f"{block}: {self.name}", self.family, self.needs)


@dataclass(frozen=True)
class Schema:
    """The columns of a predictor; two are equal if they read the same.

    Attributes
    ----------
    version
        `probe.vectors.SCHEMA_VERSION` that it was made with.
    adapter, directed, symmetric
        Those of an adapter, of a direction of a pair, and of a pair.
    operators
        Operator -> its own norm rule.
    norms
        Norm rules.
    families
        Families of signals that are read; columns of others are blank.
    """

    version: int
    adapter: tuple[SignalColumn, ...]
    directed: tuple[SignalColumn, ...]
    symmetric: tuple[SignalColumn, ...]
    operators: Mapping[str, str]
    norms: tuple[str, ...]
    families: frozenset[str]

    @cached_property
    def recipe(self) -> tuple[SignalColumn, ...]:
        """The recipe's columns."""
        ranks = ("rank over the larger member rank", "rank over the sum of member ranks")
        plain = [f"operator {operator}" for operator in self.operators] + [f"norm {norm}" for norm in self.norms]
        own = ["share of the victim", "share of the other"]
        own += [f"pruned of the {who}, {band}" for who in ("victim", "other") for band in BANDS]
        own += ["rho of the victim", "rho of the other"]
        return (
            *(SignalColumn(name, RECIPE, frozenset()) for name in plain),
            *(SignalColumn(name, RECIPE, frozenset({METADATA})) for name in ranks),
            *(SignalColumn(name, RECIPE, frozenset()) for name in own),
            SignalColumn(KEPT, LOSS, frozenset({CROSS_TASK})),
        )

    @cached_property
    def blocks(self) -> Mapping[str, tuple[SignalColumn, ...]]:
        """Block of a row -> its columns, in order: those of the pair vector with i the victim, then the recipe's."""
        parts = {
            "i": self.adapter,
            "j": self.adapter,
            "|i-j|": self.adapter,
            "i*j": self.adapter,
            "i->j": self.directed,
            "j->i": self.directed,
            "ij": self.symmetric,
        }
        named = {block: tuple(column.prefixed(block) for column in own) for block, own in parts.items()}
        return named | {RECIPE: self.recipe}

    @cached_property
    def columns(self) -> tuple[SignalColumn, ...]:
        """All columns of a row."""
        return tuple(column for own in self.blocks.values() for column in own)

    @cached_property
    def rank_position(self) -> int:
        """Where an adapter's declared rank stands among its columns."""
        return [column.name for column in self.adapter].index(RANK_COLUMN)

    @cached_property
    def kept_positions(self) -> tuple[int, ...]:
        """Where `KEPT_COLUMNS` stand among the columns of a direction."""
        names = [column.name for column in self.directed]
        return tuple(names.index(name) for name in KEPT_COLUMNS)

    @cached_property
    def kept_position(self) -> int:
        """Where `KEPT` stands within a row."""
        return [column.name for column in self.columns].index(KEPT)

    @cached_property
    def loss_columns(self) -> NDArray[np.int64]:
        """Positions, within a row, of what losses on calibration rows say, and of the recipe."""
        return np.flatnonzero([column.family in (LOSS, RECIPE) for column in self.columns])

    def slices(self) -> Iterator[slice]:
        """Yield where each block lies within a row."""
        start = 0
        for own in self.blocks.values():
            yield slice(start, start + len(own))
            start += len(own)

    def is_blank(self, missing: Missing, columns: tuple[SignalColumn, ...] | None = None) -> NDArray[np.bool_]:
        """Say which columns (of a row, by default) are blank where needs are missing, or because of their family."""
        read = self.families | {RECIPE}
        own = self.columns if columns is None else columns
        return np.array([bool(column.needs & missing) or column.family not in read for column in own])

    def missing_of_adapters(self, rows: NDArray[Any]) -> list[Missing]:
        """Say what was not measured of adapters, (rows, columns), by the share of its columns that are NaN."""
        return _missing(rows, self._needs_of_adapters)

    def missing_of_pairs(self, rows: NDArray[Any]) -> list[Missing]:
        """Say what was not measured of pairs, (rows, columns of both directions, then the symmetric ones)."""
        return _missing(rows, self._needs_of_pairs)

    @cached_property
    def _needs_of_adapters(self) -> Mapping[str, NDArray[np.bool_]]:
        return self._needs(self.adapter)

    @cached_property
    def _needs_of_pairs(self) -> Mapping[str, NDArray[np.bool_]]:
        return self._needs((*self.directed, *self.directed, *self.symmetric))

    def _needs(self, columns: Sequence[SignalColumn]) -> Mapping[str, NDArray[np.bool_]]:
        """Return need -> which columns are measured from it, of those that are read."""
        return {
            need: np.array([need in column.needs and column.family in self.families for column in columns])
            for need in (METADATA, CALIBRATION, CROSS_TASK)
        }

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        columns = {
            name: [[column.name, column.family, sorted(column.needs)] for column in getattr(self, name)]
            for name in ("adapter", "directed", "symmetric")
        }
        # Pairs, because their order is that of the columns.
        operators = [list(pair) for pair in self.operators.items()]
        rest = {"operators": operators, "norms": list(self.norms), "families": sorted(self.families)}
        return {"version": self.version} | columns | rest

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Schema:
        """Make it from what `as_json` gave."""
        columns = {
            name: tuple(SignalColumn(own, family, frozenset(needs)) for own, family, needs in fields[name])
            for name in ("adapter", "directed", "symmetric")
        }
        return cls(
            version=fields["version"],
            operators=dict(fields["operators"]),
            norms=tuple(fields["norms"]),
            families=frozenset(fields["families"]),
            **columns,
        )


def _missing(rows: NDArray[Any], needs: Mapping[str, NDArray[np.bool_]]) -> list[Missing]:
    unknown = np.isnan(rows)
    found: list[set[str]] = [set() for _ in rows]
    for need, own in needs.items():
        if own.any():
            for place in np.flatnonzero(unknown[:, own].mean(axis=1) >= MISSING_SHARE):
                found[place] |= {CALIBRATION, CROSS_TASK} if need == CALIBRATION else {need}
    return [frozenset(own) for own in found]
