"""A predictor whose forecasts are planted, and which notes what it was asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probe.predictors.card import Card
from probe.predictors.forecast import Evidence, Forecast, Merge, PredictorError

CARD = Card(
    bank="planted",
    base_model="tiny",
    records_hash="r" * 64,
    date="2026-01-01",
    options={"seed": 0},
    num_adapters=9,
    num_pair_labels=99,
    num_set_merges=0,
    left_out={},
    revisions=(),
    metrics=(),
    gain=None,
)


@dataclass
class PlantedPredictor:
    """Forecasts that an adapter keeps `kept[name]` in any merge, and at least `margin` less.

    `name_of` turns a revision into a name; names without an entry keep everything.
    """

    name_of: Callable[[str], str]
    kept: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.02
    error: PredictorError | None = None
    card: Card = CARD
    asked: list[Merge] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def forecast(self, merges: Sequence[Merge], evidence: Evidence) -> tuple[Forecast, ...]:
        self.asked += merges
        self.evidence.append(evidence)
        if self.error is not None:
            raise self.error
        return tuple(map(self._forecast, merges))

    def _forecast(self, merge: Merge) -> Forecast:
        kept = tuple(self.kept.get(self.name_of(member), 1.0) for member in merge.members)
        bounds = tuple(value - self.margin for value in kept)
        mean = math.fsum(kept) / len(kept)
        return Forecast(merge.members, kept, bounds, mean, min(kept), min(bounds), 0.9, "all", 99)
