"""Row and column sums of the diagonal Fisher of Delta-W, exact for each example, without a gradient matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FisherMarginals:
    """Sums over examples of the marginals of G * G, with G = Delta^T X the gradient of one example's loss.

    With token Gram matrices K = X X^T and H = Delta Delta^T (T, T) of the example,
    sum_i G[o, i]^2 = (Delta^T K Delta)[o, o] and sum_o G[o, i]^2 = (X^T H X)[i, i]:
    2 T (d_out + d_in) products a token, where G itself would take d_out d_in and as much memory.
    """

    def __init__(self, linears: Mapping[str, nn.Linear]) -> None:
        self._out = {name: torch.zeros(m.out_features, device=m.weight.device) for name, m in linears.items()}
        self._in = {name: torch.zeros(m.in_features, device=m.weight.device) for name, m in linears.items()}

    def add(self, name: str, x: Tensor, gram: Tensor, delta: Tensor) -> None:
        """Add a batch: x (b, T, d_in), its `gram` (b, T, T), delta (b, T, d_out). Padding has a delta of zero."""
        self._out[name] += (gram @ delta).mul_(delta).sum((0, 1))
        self._in[name] += (delta @ delta.mT @ x).mul_(x).sum((0, 1))

    def means(self, name: str, num_examples: int) -> tuple[Tensor, Tensor]:
        """Return f_out (d_out,) and f_in (d_in,) on the CPU; >= 0, which rounding alone could break."""
        f_out, f_in = self._out[name] / num_examples, self._in[name] / num_examples
        return f_out.clamp(min=0).cpu(), f_in.clamp(min=0).cpu()
