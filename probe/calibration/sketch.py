"""Two-sided Gaussian sketches of gradients: small, comparable between adapters, and made without the gradient."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from probe.layers import place_of

SKETCH_SIZE = 64
"""k. Part of the schema: sketches of another size cannot be compared."""
SKETCH_SCHEMA = "mergeprobe gradient sketch 1"
"""Seeds every sketch; change it with anything that changes them, and old profiles must be measured again."""


def gaussian(label: str, width: int, size: int = SKETCH_SIZE) -> Tensor:
    """Return S (width, size), entries N(0, 1/size) drawn from the label alone, so that E[S S^T] is the identity.

    Drawn on the CPU, so that every device has the same.
    """
    digest = hashlib.sha256(f"{label}|{width}|{size}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return torch.randn(width, size, generator=generator) / math.sqrt(size)


class GradientSketches:
    """Sums of S_out^T G S_in over examples, one (k, k) for each module.

    G = Delta^T X is never formed: with X (tokens, d_in) what the module reads and Delta (tokens, d_out) the gradient
    of the loss with respect to what it writes, the sketch is (Delta S_out)^T (X S_in). It is unbiased in the
    sense that E<S_out^T G S_in, S_out^T H S_in> = <G, H>. S_out is the module's own; modules of one block that read
    vectors of one width share S_in, so that q, k and v, which read the same vectors, project them once.

    Notes
    -----
    k = 64 is chosen by measurement (`python -m tests.bench.sketch_error`): on the demo bank the cosine of one module's
    gradients is off by 0.07 (root mean square); by 0.09 at 32, and by 0.05 at 128, which costs twice as much.

    References
    ----------
    D. P. Woodruff, "Sketching as a Tool for Numerical Linear Algebra" (2014), Theorem 2.1.
    """

    def __init__(self, linears: Mapping[str, nn.Linear]) -> None:
        device = next(iter(linears.values())).weight.device
        self._out = {
            name: gaussian(f"{SKETCH_SCHEMA}|out|{name}", module.out_features).to(device)
            for name, module in linears.items()
        }
        inputs = {(place_of(name).layer, module.in_features) for name, module in linears.items()}
        self._in = {
            (layer, width): gaussian(f"{SKETCH_SCHEMA}|in|{layer}", width).to(device) for layer, width in inputs
        }
        self._sums = {name: torch.zeros(SKETCH_SIZE, SKETCH_SIZE, device=device) for name in linears}

    def project_input(self, name: str, x: Tensor) -> Tensor:
        """Return X S_in (tokens, k) of inputs x (b, T, d_in), for any module that reads them."""
        return x.flatten(0, 1).float() @ self._in[place_of(name).layer, x.shape[-1]]

    def add(self, name: str, projected: Tensor, delta: Tensor) -> None:
        """Add a batch: its projected inputs, and the gradients delta (b, T, d_out)."""
        self._sums[name].addmm_((delta.flatten(0, 1).float() @ self._out[name]).T, projected)

    def means(self, num_examples: int) -> dict[str, Tensor]:
        """Return module name -> sketch (k, k) of the mean gradient, on the CPU."""
        return {name: (total / num_examples).cpu() for name, total in self._sums.items()}
