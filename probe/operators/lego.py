"""LoRA-LEGO: cluster the rank-one units of all members, one unit of the result for each cluster."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probe.operators.decomposition import decomposed
from probe.operators.operator import Members
from probe.operators.ordering import by_content

# Restarts of k-means; units are few, so that each takes about a millisecond.
_NUM_RESTARTS = 10
_NUM_DIGITS = 9


def lego(members: Members) -> Tensor:
    """Return sqrt(r/k) sum_c b_c a_c^T over k = min(rank, units) clusters of units z = [b; a].

    Units are those of the canonical gauge (b = sqrt(s) u, a = sqrt(s) v), or clusters would depend on training
    history. Clustered with both halves at unit length; a cluster's unit is the weighted mean of its raw units,
    stretched to their weighted mean length. r is the mean number of units a member, over those that have the module.
    Weights say how much a unit counts within its cluster.

    References
    ----------
    "Merging LoRAs like Playing LEGO" (arXiv 2409.16167).
    """
    present = members.present
    units, weights = _units(present)
    order = by_content(units, weights)
    units, weights = units[order], weights[order]
    labels, num_clusters = _clusters(units, weights, members)
    belongs = torch.nn.functional.one_hot(labels, num_clusters).T * weights
    share = belongs / belongs.sum(dim=1, keepdim=True)
    centroids, lengths = share @ units, share @ units.norm(dim=1)
    own = centroids.norm(dim=1)
    centroids = centroids * torch.where(own > present.tolerance * lengths, lengths / own, 0.0)[:, None]
    left, right = _halves(centroids, present)
    return math.sqrt(len(units) / len(present.cores) / num_clusters) * left.T @ right


def _units(members: Members) -> tuple[Tensor, Tensor]:
    """Return (m, k_B + k_A), the units [b; a] of all members, and (m,), their members' weights."""
    parts = decomposed(members.cores, members.floor)
    # A unit and its negation are the same: the largest entry of b is made positive.
    signs = parts.U.gather(1, parts.U.abs().argmax(dim=1, keepdim=True)).sign()
    halves = torch.cat([parts.U, parts.V], dim=1) * signs * parts.s.sqrt()[:, None, :]
    return halves.mT[parts.is_real], members.weights[:, None].expand_as(parts.s)[parts.is_real]


def _halves(units: Tensor, members: Members) -> tuple[Tensor, Tensor]:
    """Return b (m, k_B) and a (m, k_A) of units [b; a]."""
    num_outputs = members.cores.shape[1]
    return units[:, :num_outputs], units[:, num_outputs:]


def _clusters(units: Tensor, weights: Tensor, members: Members) -> tuple[Tensor, int]:
    from sklearn.cluster import KMeans

    shapes = torch.cat([torch.nn.functional.normalize(half, dim=1) for half in _halves(units, members)], dim=1)
    # Units of one member are orthogonal, thus equally far apart: their last bits must not choose the clusters.
    shapes = shapes.round(decimals=_NUM_DIGITS)
    num_clusters = min(members.rank, len(torch.unique(shapes, dim=0)))
    seed = int(torch.randint(2**31 - 1, (), generator=members.generator))
    means = KMeans(num_clusters, n_init=_NUM_RESTARTS, random_state=seed)
    return torch.from_numpy(means.fit_predict(shapes.numpy(), sample_weight=weights.numpy())).long(), num_clusters
