"""What the adapter's pass adds up, batch by batch: gradients, Fisher marginals, and vectors of sampled tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.calibration.directions import Directions, principal_directions
from probe.calibration.examples import Batch, Examples, Positions
from probe.calibration.fisher import FisherMarginals
from probe.calibration.sketch import GradientSketches
from probe.profiles import LayerActivations, ModuleCalibration


@dataclass(frozen=True, slots=True, eq=False)
class ModuleInput:
    """What one or more modules read in one batch, and the work on it that they share.

    Attributes
    ----------
    source
        The first of these modules.
    x, gram
        Inputs X (b, T, d_in), and X X^T (b, T, T) of each row.
    projected
        X S_in (b T, k), `probe.calibration.sketch`.
    """

    source: str
    x: Tensor
    gram: Tensor
    projected: Tensor


class TokenSample:
    """Vectors of tokens that were chosen in advance, at many places of the model."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._in_batch = torch.empty(0, dtype=torch.long)
        self._vectors: dict[str | int, list[Tensor]] = {}

    def start(self, batch: Batch) -> None:
        """Say which batch comes next."""
        self._in_batch = batch.flat(self._positions)

    def add(self, place: str | int, hidden: Tensor) -> None:
        """Take the chosen tokens out of `hidden` (b, T, d)."""
        chosen = hidden.flatten(0, 1)[self._in_batch.to(hidden.device)]
        self._vectors.setdefault(place, []).append(chosen.float())

    def vectors(self) -> dict[str | int, Tensor]:
        """Return place -> (tokens, d), float32."""
        return {place: torch.cat(parts) for place, parts in self._vectors.items()}


class AdapterSums:
    """Sums over the batches of one pass under an adapter."""

    def __init__(
        self, examples: Examples, linears: Mapping[str, nn.Linear], num_sampled_tokens: int, seed: int
    ) -> None:
        self.linears = linears
        self._num_examples = len(examples.rows)
        self._sketches, self._fisher = GradientSketches(linears), FisherMarginals(linears)
        self._inputs = TokenSample(examples.sample(num_sampled_tokens, seed))
        self._stream = TokenSample(examples.sample(num_sampled_tokens, seed, first=1))
        self._sources: dict[str, str] = {}

    def start(self, batch: Batch) -> None:
        """Say which batch comes next."""
        self._inputs.start(batch)
        self._stream.start(batch)

    def add_input(self, name: str, x: Tensor) -> ModuleInput:
        """Take what module `name`, and perhaps others after it, reads: (b, T, d_in)."""
        self._inputs.add(name, x)
        x = x.float()
        return ModuleInput(name, x, x @ x.mT, self._sketches.project_input(name, x))

    def add_gradient(self, name: str, seen: ModuleInput, delta: Tensor) -> None:
        """Take the gradient (b, T, d_out) with respect to what module `name` writes."""
        self._sources[name] = seen.source
        delta = delta.float().contiguous()
        self._sketches.add(name, seen.projected, delta)
        self._fisher.add(name, seen.x, seen.gram, delta)

    def add_stream(self, number: int, hidden: Tensor) -> None:
        """Take the residual stream (b, T, d) after a block."""
        self._stream.add(number, hidden)

    def modules(self, num_directions: int) -> dict[str, ModuleCalibration]:
        """Return what the pass says of each module; those that read the same share their directions."""
        gradients = self._sketches.means(self._num_examples)
        inputs = {
            source: principal_directions(vectors, num_directions) for source, vectors in self._inputs.vectors().items()
        }
        return {name: self._module(name, gradients[name], inputs[self._sources[name]]) for name in self.linears}

    def layers(self, num_directions: int) -> dict[int, LayerActivations]:
        """Return what the pass says of the residual stream after each block."""
        found = {}
        for number, vectors in self._stream.vectors().items():
            # In float64, since what rounding leaves of the mean would count as one direction more.
            centred = vectors.double() - vectors.double().mean(dim=0)
            own = principal_directions(centred, num_directions)
            found[int(number)] = LayerActivations(own.P, own.energy)
        return found

    def _module(self, name: str, gradient: Tensor, inputs: Directions) -> ModuleCalibration:
        f_out, f_in = self._fisher.means(name, self._num_examples)
        return ModuleCalibration(
            f_out=f_out, f_in=f_in, gradient=gradient, P_in=inputs.P, energy_in=inputs.energy, floor_in=inputs.floor
        )
