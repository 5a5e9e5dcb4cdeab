"""Gain of an adapter that is still in training: G_i of Eq. 1, from its own signals alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probe.predictors.design import Matrix
from probe.predictors.forecast import AdapterEvidence, SchemaMismatch
from probe.predictors.schema import Schema
from probe.vectors import Vector

if TYPE_CHECKING:
    from xgboost import Booster  # as in `probe.predictors.pair_model`


@dataclass(frozen=True, slots=True, eq=False)
class GainModel:
    """One regressor of G, on the columns of an adapter and its rho."""

    schema: Schema
    regressor: Booster

    def __call__(self, adapters: Sequence[AdapterEvidence]) -> Vector:
        """Return G of adapters, (adapters,); at most 1 where measured, but not clipped."""
        rows = gain_design(self.schema, adapters)
        return np.asarray(self.regressor.inplace_predict(rows, predict_type="margin"), dtype=np.float64)


def gain_design(schema: Schema, adapters: Sequence[AdapterEvidence]) -> Matrix:
    """Return the rows (adapters, columns of an adapter and rho).

    Raises
    ------
    SchemaMismatch
        An adapter has another number of features than the schema.
    """
    wrong = next((len(one.values) for one in adapters if len(one.values) != len(schema.adapter)), None)
    if wrong is not None:
        raise SchemaMismatch(
            f"Got {wrong} features of an adapter, but the predictor reads {len(schema.adapter)}; "
            "measure the features with the version that it was fitted with, or fit it again."
        )
    values = np.array([one.values for one in adapters], dtype=np.float32)
    values[:, schema.is_blank(frozenset(), schema.adapter)] = np.nan
    return np.column_stack([values, np.array([one.rho for one in adapters], dtype=np.float32)])
