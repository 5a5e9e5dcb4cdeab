"""An order of members, or of parts of them, that does not depend on how the caller lists them."""

from __future__ import annotations

import torch
from torch import Tensor

# Sums in another order differ in their last bits, which must not decide the order.
_NUM_DIGITS = 9


def by_content(vectors: Tensor, weights: Tensor) -> Tensor:
    """Return the positions of vectors (n, m), longest first; those of one length by their entries, then by weight."""
    lengths = vectors.norm(dim=1, keepdim=True)
    unit = lengths.max() if lengths.any() else torch.ones_like(lengths[0])
    keys = (torch.cat([lengths, vectors], dim=1) / unit * 10**_NUM_DIGITS).round()
    ranked = sorted(zip(keys.tolist(), weights.tolist(), range(len(keys)), strict=True), reverse=True)
    return torch.tensor([position for *_, position in ranked])
