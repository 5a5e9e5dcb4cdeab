"""Operators that drop entries at random and scale up the others, so that the expectation stays."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probe.operators.linear import task_arithmetic
from probe.operators.operator import Members
from probe.operators.ordering import by_content
from probe.operators.ties import elected_mean, trimmed


def dare(members: Members, *, p: float) -> Tensor:
    """Drop every core entry with probability p, divide the others by 1 - p, then sum; the expectation is `ta`.

    References
    ----------
    "Language Models are Super Mario" (arXiv 2311.03099), drop and rescale; entries are those of the core here.
    """
    is_kept = _draws(members) >= p
    return task_arithmetic(replace(members, cores=members.cores * is_kept / (1 - p)))


def della(members: Members, *, density: float, eps: float) -> Tensor:
    """Keep large entries of a row more likely than small ones, then elect signs and average as TIES does.

    The keep probability is linear in the rank of |x| in its row (one output direction), from density - eps to
    density + eps, at most 1, and `density` on average; every kept entry is divided by its own. Ranks are taken at
    midpoints, so that a row of one entry has the average probability.

    References
    ----------
    "DELLA-Merging" (arXiv 2406.11617), MagPrune, elect and fuse.
    """
    voters = members.present
    entries = trimmed(voters, density=1.0)
    width = entries.shape[2]
    rank_in_row = entries.abs().argsort(dim=2).argsort(dim=2)
    probability = (density - eps + 2 * eps * (rank_in_row + 0.5) / width).clamp(max=1)
    return elected_mean(voters, entries * (_draws(voters) < probability) / probability)


def _draws(members: Members) -> Tensor:
    """Return (n, k_B, k_A), uniform numbers in [0, 1) that go with a member's content, not with its position."""
    numbers = torch.rand(members.cores.shape, generator=members.generator, dtype=torch.float64)
    draws = torch.empty_like(numbers)
    draws[by_content(members.cores.flatten(1), members.weights)] = numbers
    return draws
