"""The pair model: what a victim keeps beside one other, and whether the merge is safe for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.predictors.design import Matrix
from probe.vectors import Vector

if TYPE_CHECKING:
    from xgboost import Booster  # takes pandas and scikit-learn with it: imported where models are read or fitted


@dataclass(frozen=True, slots=True, eq=False)
class PairForecasts:
    """(rows,) each: Ret of the victim, and the log-odds that its side is safe, before temperature scaling."""

    retention: Vector
    margin: Vector


@dataclass(frozen=True, slots=True, eq=False)
class PairTrees:
    """One directional regressor of Ret, and one classifier of the victim's side being safe, on the same columns.

    Attributes
    ----------
    columns
        Positions, within `Schema.columns`, of what the trees read.
    regressor, classifier
        The trees.
    log_odds_shift
        What class balancing added to the classifier's log-odds; it is taken off again, so that the margin is that of
        the rate seen.
    """

    columns: NDArray[np.int64]
    regressor: Booster
    classifier: Booster
    log_odds_shift: float

    def __call__(self, design: Matrix) -> PairForecasts:
        """Forecast rows of a design (rows, columns of the schema)."""
        read = np.ascontiguousarray(design[:, self.columns])
        return PairForecasts(
            retention=_margins(self.regressor, read),
            margin=_margins(self.classifier, read) - self.log_odds_shift,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PairModel:
    """The mean of trees that read everything and of trees that read losses alone, where losses were measured.

    Losses on calibration rows say most, but of a thousand other columns some fit the few adapters of a bank better by
    chance; trees that cannot see those hold against them.

    Attributes
    ----------
    wide
        Trees that read columns of every block.
    narrow
        Trees that read the losses and the recipe; None where no losses were measured.
    kept_column
        Position, within `Schema.columns`, of what says whether losses were measured.
    """

    wide: PairTrees
    narrow: PairTrees | None
    kept_column: int

    def __call__(self, design: Matrix) -> PairForecasts:
        """Forecast rows of a design (rows, columns of the schema)."""
        found = self.wide(design)
        known = np.isfinite(design[:, self.kept_column])
        if self.narrow is None or not known.any():
            return found
        other = self.narrow(design[known])
        retention, margin = found.retention.copy(), found.margin.copy()
        retention[known] = (retention[known] + other.retention) / 2
        margin[known] = (margin[known] + other.margin) / 2
        return PairForecasts(retention, margin)


def all_safe(margins: Vector) -> Vector:
    """Return the log-odds (...) that all sides are safe, from those of each, (sides, ...), as if independent.

    That they are not is left to temperature scaling.
    """
    log_probability = -np.logaddexp(0.0, -margins).sum(axis=0)
    return np.asarray(log_probability - np.log(-np.expm1(log_probability)))


def _margins(trees: Booster, rows: Matrix) -> Vector:
    if not len(rows):
        return np.empty(0)
    return np.asarray(trees.inplace_predict(rows, predict_type="margin"), dtype=np.float64)
