"""TIES: keep each member's largest entries, elect a sign for every entry, average those that agree with it."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.operators.operator import Members


def ties(members: Members, *, density: float) -> Tensor:
    """Trim, elect, merge disjointly: sum_i w_i X_i [sign X_i = g] / sum_i w_i [sign X_i = g], g = sign(sum_i w_i X_i).

    Trimmed in each module on its own, in core coordinates: the entries of a core are the update's coefficients in
    bases that all members share, so an entry means the same direction for each of them. An entry whose votes cancel
    elects no sign and is zero; the paper gives it to the majority of all entries, which would turn update and
    negated update into something.

    References
    ----------
    "TIES-Merging" (arXiv 2306.01708), Section 4. The paper has no weights; here they weigh votes and means.
    """
    voters = members.present
    return elected_mean(voters, trimmed(voters, density))


def trimmed(members: Members, density: float) -> Tensor:
    """Return (n, k_B, k_A), the cores with all but the largest `density` of their entries set to zero.

    Entries that are only rounding are zero at any density: they would vote at random, and count.
    """
    magnitudes = members.cores.abs()
    num_entries = magnitudes[0].numel()
    num_kept = max(1, round(density * num_entries))
    threshold = magnitudes.flatten(1).kthvalue(num_entries - num_kept + 1, dim=1).values
    is_kept = (magnitudes >= threshold[:, None, None]) & (magnitudes > members.floor[:, None, None])
    return members.cores * is_kept


def elected_mean(members: Members, entries: Tensor) -> Tensor:
    """Return (k_B, k_A), the weighted mean of those `entries` (n, k_B, k_A) that have the elected sign."""
    weights = members.weights[:, None, None]
    votes = weights * entries
    total = votes.sum(dim=0)
    is_decided = total.abs() > (members.weights * members.floor).max()
    agrees = (entries.sign() == total.sign()) & is_decided
    agreeing = (weights * agrees).sum(dim=0)
    return (votes * agrees).sum(dim=0) / torch.where(agreeing > 0, agreeing, 1.0)
