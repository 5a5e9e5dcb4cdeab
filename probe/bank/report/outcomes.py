"""Ret of ordered pairs beside their signals, with the permutation test of every column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probe.bank.report.measurements import Measurements, where
from probe.bank.report.pair_columns import PairColumn, PairMatrices
from probe.bank.report.statistics import Estimate, Permuted, Vector, adapter_permutation_test, spearman_over_pairs


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Ret of ordered pairs under one operator, beside the pair matrices.

    Attributes
    ----------
    operator, matrices
        Of which.
    victims, others
        (pairs,) positions in the matrices.
    ret
        (pairs,).
    """

    operator: str
    matrices: PairMatrices
    victims: NDArray[np.int64]
    others: NDArray[np.int64]
    ret: Vector

    def values(self, column: PairColumn) -> Vector:
        """Return a column over the pairs; NaN where unknown."""
        matrix = self.matrices.of(column)
        return np.full(len(self.ret), np.nan) if matrix is None else np.asarray(matrix[self.victims, self.others])

    def known(self, *columns: PairColumn) -> tuple[list[Vector], Vector, list[tuple[str, str]]]:
        """Return columns, Ret and the adapters of the pairs that all columns know."""
        values = [self.values(column) for column in columns]
        keep = np.flatnonzero(np.isfinite(values).all(axis=0))
        members = [(self.matrices.names[self.victims[k]], self.matrices.names[self.others[k]]) for k in keep]
        return [value[keep] for value in values], self.ret[keep], members

    def spearman(self, column: PairColumn) -> Estimate:
        """Return a column's correlation with Ret, its interval clustered by adapter."""
        (values,), ret, members = self.known(column)
        return spearman_over_pairs(values, ret, members)


@dataclass(frozen=True, eq=False)
class Tested:
    """Outcomes with the permutation test of every column."""

    outcomes: Outcomes
    permuted: Permuted

    def p_values(self, column: PairColumn) -> tuple[float, float]:
        """Return a column's own p and its family-wise p."""
        index = self.outcomes.matrices.columns.index(column)
        return float(self.permuted.p_values[index]), float(self.permuted.family_wise[index])

    @cached_property
    def main(self) -> dict[PairColumn, Estimate]:
        """Main column -> correlation with Ret, where it is defined."""
        found = {column: self.outcomes.spearman(column) for column in self.outcomes.matrices.columns if column.is_main}
        return {column: of for column, of in found.items() if np.isfinite(of.value)}


def outcomes_of(bank: Measurements, matrices: PairMatrices, operator: str) -> Outcomes:
    """Return Ret under an operator of the ordered pairs whose adapters have features; a mean where measured twice."""
    pairs = where(bank.pairs, operator=operator).groupby(["adapter", "other"], sort=True)["ret"].mean()
    place = {name: index for index, name in enumerate(matrices.names)}
    known = [(place[one], place[other], ret) for (one, other), ret in pairs.items() if one in place and other in place]
    victims, others = (np.asarray([row[axis] for row in known], dtype=np.int64) for axis in (0, 1))
    return Outcomes(operator, matrices, victims, others, np.asarray([row[2] for row in known], dtype=np.float64))


def tested(outcomes: Outcomes) -> Tested:
    """Test every column, renaming only the adapters that were merged: controls keep out of the null."""
    merged = np.unique(np.concatenate([outcomes.victims, outcomes.others]))
    values = outcomes.matrices.values[:, merged][:, :, merged]
    victims, others = (np.searchsorted(merged, axis) for axis in (outcomes.victims, outcomes.others))
    return Tested(outcomes, adapter_permutation_test(values, victims, others, outcomes.ret))
