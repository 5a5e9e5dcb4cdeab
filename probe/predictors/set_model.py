"""The set model in numpy: what a merge of three or more keeps beyond what its pairs say, by Deep Sets.

Adapters and pairs go each through two layers, are pooled by mean and maximum, which no order of members can change, and
two more layers turn them, with the pairs' forecasts in sum, into three corrections: of macro Ret, of worst Ret and of
the log-odds that the merge is safe. They are added to what the pairs alone say, so a model without labels (all zero)
forecasts by the weakest pair.

References
----------
Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov and Smola, "Deep Sets", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.predictors.pair_model import all_safe
from probe.predictors.set_inputs import PairMatrix, Question, SetInputs, SetReader, member_retention
from probe.vectors import Standardisation, Vector

LAYERS = ("adapter.0", "adapter.1", "pair.0", "pair.1", "head.0", "head.1")
"""Names of the linear layers; each has a ``weight`` (out, in) and a ``bias`` (out,)."""
PARTS = ("adapters", "pairs", "merge")
"""Parts of the inputs that are standardised."""


@dataclass(frozen=True, slots=True, eq=False)
class SetForecasts:
    """Forecasts of merges.

    Attributes
    ----------
    retention
        One (members,) a merge; their mean is `macro`, and their least `worst`.
    macro, worst, margin
        (merges,): mean and least Ret, and the log-odds that the merge is safe, before temperature scaling.
    """

    retention: tuple[Vector, ...]
    macro: Vector
    worst: Vector
    margin: Vector


@dataclass(frozen=True, slots=True, eq=False)
class SetModel:
    """The corrections' weights, and how inputs are standardised.

    Attributes
    ----------
    reader
        Of the inputs.
    standards
        By part of `PARTS`.
    layers
        (layer of `LAYERS` + ``.weight`` or ``.bias``) -> array; empty: no correction.
    """

    reader: SetReader
    standards: Mapping[str, Standardisation]
    layers: Mapping[str, Vector]

    def __call__(self, questions: Sequence[Question]) -> SetForecasts:
        """Forecast merges."""
        if not questions:
            return SetForecasts((), *np.empty((3, 0)))
        return self.forecast(self.reader(questions), [one.pairs for one in questions])

    def forecast(self, inputs: SetInputs, pairs: Sequence[PairMatrix]) -> SetForecasts:
        """Forecast merges whose inputs were read already."""
        macro, worst, margin = (inputs.anchors + self.corrections(inputs)).T
        members = [member_retention(one) for one in pairs]
        moved = tuple(map(moved_to, members, macro, worst))
        return SetForecasts(
            retention=moved,
            macro=np.array([one.mean() for one in moved]),
            worst=np.array([one.min() for one in moved]),
            margin=margin,
        )

    def corrections(self, inputs: SetInputs) -> Vector:
        """Return (merges, 3): what is added to what the pairs say."""
        if not self.layers:
            return np.zeros_like(inputs.anchors)
        adapters, pairs, merge = (standardised(self.standards[part], getattr(inputs, part)) for part in PARTS)
        pooled = [
            *_pooled(self._two_layers("adapter", adapters), inputs.has_adapter),
            *_pooled(self._two_layers("pair", pairs), inputs.has_pair),
        ]
        hidden = _relu(self._linear("head.0", np.concatenate([*pooled, merge], axis=1)))
        return self._linear("head.1", hidden)

    def _two_layers(self, name: str, rows: Vector) -> Vector:
        return _relu(self._linear(f"{name}.1", _relu(self._linear(f"{name}.0", rows))))

    def _linear(self, name: str, rows: Vector) -> Vector:
        return np.asarray(rows @ self.layers[f"{name}.weight"].T + self.layers[f"{name}.bias"])


def without_labels(reader: SetReader) -> SetModel:
    """Return the model that forecasts a set by its pairs alone."""
    return SetModel(reader, {}, {})


def standardised(standard: Standardisation, rows: Vector) -> Vector:
    """Return rows in units of spread from the centre; what is unknown lies in the centre."""
    return np.nan_to_num(standard(rows), nan=0.0)


def moved_to(members: Vector, macro: float, worst: float) -> Vector:
    """Move members' Ret, stretching their distances alike, until their mean is `macro` and their least `worst`.

    Who keeps more than whom stays as the pairs say. Where the pairs tell no member from another, or the worst would be
    above the mean, there is nothing to stretch, and all keep the lower of the two.
    """
    spread = float(members.mean() - members.min())
    if spread <= 0 or worst >= macro:
        return np.full_like(members, min(macro, worst))
    return np.asarray(macro + (members - members.mean()) * ((macro - worst) / spread))


def forecasts_of_pair(pairs: PairMatrix) -> tuple[Vector, float]:
    """Return Ret of both members of a merge of two, and the log-odds that it is safe."""
    return member_retention(pairs), float(all_safe(np.array([pairs.margin[0, 1], pairs.margin[1, 0]])))


def _relu(rows: Vector) -> Vector:
    return np.maximum(rows, 0.0)


def _pooled(rows: Vector, has_row: Vector) -> tuple[Vector, Vector]:
    """Return mean and maximum of (merges, rows, columns) over the rows that there are; all values are >= 0."""
    known = rows * has_row[:, :, None]
    return known.sum(axis=1) / has_row.sum(axis=1, keepdims=True), known.max(axis=1)
