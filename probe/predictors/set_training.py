"""Train the set model, the only part of a predictor that needs torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.predictors.set_inputs import SetInputs, SetReader
from probe.predictors.set_model import PARTS, SetModel, standardised, without_labels
from probe.vectors import Standardisation, Vector

MIN_MERGES = 30
"""Measured merges of three or more that corrections are learnt from; with fewer, sets are forecast by their pairs."""
HIDDEN, POOLED, HEAD = 24, 16, 24
"""Widths: some 5,000 parameters, against some hundred labels."""
NUM_STEPS, BATCH = 300, 256
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 10.0
"""Of AdamW; what no label speaks for is halved every 23 steps, so that corrections stay small where labels are few."""
SAFETY_SHARE = 0.1
"""What the log-loss of safety, of the order of 1, weighs beside errors of Ret, of the order of 0.1."""


@dataclass(frozen=True, slots=True, eq=False)
class SetTargets:
    """What was measured of merges, (merges,) each.

    Attributes
    ----------
    macro, worst
        Mean and least Ret.
    is_safe
        1, 0, or NaN where it is not known.
    weight
        Of each row; the rows of one label weigh 1 together.
    """

    macro: Vector
    worst: Vector
    is_safe: Vector
    weight: Vector

    def take(self, places: NDArray[np.int64]) -> SetTargets:
        """Return the targets of some of the merges."""
        return SetTargets(**{one.name: getattr(self, one.name)[places] for one in fields(self)})


class DeepSets(nn.Module):
    """`probe.predictors.set_model.SetModel` for training; its corrections start at zero."""

    def __init__(self, num_adapter: int, num_pair: int, num_merge: int) -> None:
        super().__init__()
        self.adapter = nn.ModuleList([nn.Linear(num_adapter, HIDDEN), nn.Linear(HIDDEN, POOLED)])
        self.pair = nn.ModuleList([nn.Linear(num_pair, HIDDEN), nn.Linear(HIDDEN, POOLED)])
        last = nn.Linear(HEAD, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.ModuleList([nn.Linear(4 * POOLED + num_merge, HEAD), last])
        self.double()

    def forward(self, adapters: Tensor, has_adapter: Tensor, pairs: Tensor, has_pair: Tensor, merge: Tensor) -> Tensor:
        """Return corrections (merges, 3) for standardised inputs."""
        pooled = [*_pooled(self.adapter, adapters, has_adapter), *_pooled(self.pair, pairs, has_pair)]
        hidden: Tensor = self.head[0](torch.cat([*pooled, merge], dim=1)).relu()
        found: Tensor = self.head[1](hidden)
        return found


def _pooled(layers: nn.ModuleList, rows: Tensor, has_row: Tensor) -> tuple[Tensor, Tensor]:
    known = layers[1](layers[0](rows).relu()).relu() * has_row[:, :, None]
    return known.sum(dim=1) / has_row.sum(dim=1, keepdim=True), known.amax(dim=1)


def fit_set_model(inputs: SetInputs, targets: SetTargets, reader: SetReader, huber_slope: float, seed: int) -> SetModel:
    """Fit corrections to measured merges; under `MIN_MERGES` labels there are none."""
    if round(float(targets.weight.sum())) < MIN_MERGES:
        return without_labels(reader)
    standards = {part: _standard(inputs, part) for part in PARTS}
    network = _trained(_tensors(inputs, standards), inputs, targets, huber_slope, seed)
    layers = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    return SetModel(reader, standards, layers)


def _standard(inputs: SetInputs, part: str) -> Standardisation:
    rows: Vector = getattr(inputs, part)
    present = {"adapters": inputs.has_adapter, "pairs": inputs.has_pair}.get(part)
    return Standardisation.fit(rows if present is None else rows[present > 0])


def _tensors(inputs: SetInputs, standards: dict[str, Standardisation]) -> tuple[Tensor, ...]:
    adapters, pairs, merge = (standardised(standards[part], getattr(inputs, part)) for part in PARTS)
    return tuple(torch.from_numpy(one) for one in (adapters, inputs.has_adapter, pairs, inputs.has_pair, merge))


def _trained(
    tensors: tuple[Tensor, ...], inputs: SetInputs, targets: SetTargets, huber_slope: float, seed: int
) -> DeepSets:
    # Under a seed of its own, and the caller's stream of random numbers goes on as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DeepSets(tensors[0].shape[2], tensors[2].shape[2], tensors[4].shape[1])
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        anchors = torch.from_numpy(inputs.anchors)
        wanted = torch.from_numpy(np.stack([targets.macro, targets.worst, targets.is_safe], axis=1))
        weight = torch.from_numpy(targets.weight)
        for _ in range(NUM_STEPS):
            batch = torch.randperm(len(anchors))[:BATCH]
            optimiser.zero_grad()
            found = anchors[batch] + network(*(one[batch] for one in tensors))
            _loss(found, wanted[batch], weight[batch], huber_slope).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network


def _loss(found: Tensor, wanted: Tensor, weight: Tensor, huber_slope: float) -> Tensor:
    """Return the weighted mean of pseudo-Huber losses of macro and worst, and of the log-loss of safety."""
    errors = ((found[:, :2] - wanted[:, :2]) / huber_slope).square()
    ret = huber_slope * ((1 + errors).sqrt() - 1).sum(dim=1)
    is_known = wanted[:, 2].isfinite()
    safety = nn.functional.binary_cross_entropy_with_logits(
        found[:, 2], wanted[:, 2].nan_to_num(), weight=is_known.double(), reduction="none"
    )
    return (weight * (ret + SAFETY_SHARE * safety)).sum() / weight.sum()
