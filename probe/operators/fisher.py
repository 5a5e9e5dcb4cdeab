"""Average entries by how much the members' losses depend on them."""

from __future__ import annotations

from torch import Tensor

from probe.operators.operator import Members


def fisher_core(members: Members, *, floor: float) -> Tensor:
    """Return sum_i w_i F_i * C_i / sum_i w_i F_i, entry by entry, with the Fisher of core entries.

    Each F_i is divided by its Frobenius norm, so that no task weighs more because its loss is larger, and is at least
    `floor` afterwards. Not the merge of the paper, whose diagonal Fisher is that of Delta-W's own entries: the
    diagonal changes with the basis.

    References
    ----------
    "Merging Models with Fisher-Weighted Averaging" (arXiv 2111.09832).
    """
    present = members.present
    assert present.fisher is not None
    lengths = present.fisher.flatten(1).norm(dim=1)
    shares = present.fisher / lengths.where(lengths > 0, 1.0)[:, None, None]
    trust = present.weights[:, None, None] * shares.clamp(min=floor)
    average: Tensor = (trust * present.cores).sum(dim=0) / trust.sum(dim=0)
    return average
