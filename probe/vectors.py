"""Feature vectors apart from the signals that fill them: all that a predictor needs to read them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.records import MergeProbeError

SCHEMA_VERSION = 2
"""Raised whenever a column is added, removed, moved or measured otherwise: predictors refuse another version."""

Vector = NDArray[np.float64]


class FeatureError(MergeProbeError):
    """Features cannot be made or used."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Values in the order of their columns, and column name -> why it is NaN, for every column that is."""

    values: Vector
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class PairFeatures:
    """What i does to j (`forth`), what j does to i (`back`), and what is the same both ways (`symmetric`)."""

    forth: Features
    back: Features
    symmetric: Features


def pair_vector(first: Features, second: Features, pair: PairFeatures) -> Vector:
    """Return x_ij = [z_i, z_j, |z_i - z_j|, z_i * z_j, z_i->j, z_j->i, z_ij] (arXiv 2606.19549, Section 4).

    Columns are the last axis, so that stacked features give stacked vectors.
    """
    z_i, z_j = first.values, second.values
    parts = (z_i, z_j, np.abs(z_i - z_j), z_i * z_j, pair.forth.values, pair.back.values, pair.symmetric.values)
    return np.concatenate(parts, axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """Centre and spread of every column over a bank of adapters or pairs; a column belongs to one band (Appendix E).

    Attributes
    ----------
    centre, spread
        (columns,); spread is 1 where a column is constant or was never measured, so that nothing is divided by 0.
    """

    centre: Vector
    spread: Vector

    @classmethod
    def fit(cls, rows: Vector) -> Standardisation:
        """Fit to (rows, columns), NaN left out."""
        known = np.isfinite(rows)
        counts = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, rows, 0.0).sum(axis=0) / counts
        spread = np.sqrt((np.where(known, rows - centre, 0.0) ** 2).sum(axis=0) / counts)
        # A spread within rounding of the values themselves is a constant column.
        is_constant = spread <= 1e-12 * np.maximum(np.abs(centre), 1.0)
        return cls(centre, np.where(is_constant, 1.0, spread))

    def __call__(self, rows: Vector) -> Vector:
        """Return the rows in units of spread from the centre; NaN stays NaN.

        Raises
        ------
        FeatureError
            The rows have another number of columns.
        """
        if rows.shape[-1] != self.centre.shape[0]:
            raise FeatureError(
                f"Got {rows.shape[-1]} columns, but the standardisation was fitted to {self.centre.shape[0]}; "
                "make the features with the same schema version."
            )
        return (rows - self.centre) / self.spread
