"""Rank space: how far two updates read from, and write to, the same directions."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.signals.signal import Family, Need, Pair, PairSignal, Resolution, Values


def overlap_in(pair: Pair) -> Values:
    """Return Omega_A of every common module, the overlap of what two updates read, less chance; see `above_chance`."""
    return {name: above_chance(first.V, second.V) for name, (first, second) in pair.modules.items()}


def overlap_out(pair: Pair) -> Values:
    """Return Omega_B of every common module, the overlap of what two updates write, less chance."""
    return {name: above_chance(first.U, second.U) for name, (first, second) in pair.modules.items()}


def closest_in(pair: Pair) -> Values:
    """Return the cosine of the smallest principal angle between what two updates read, 0..1."""
    return {name: _largest_cosine(first.V, second.V) for name, (first, second) in pair.modules.items()}


def closest_out(pair: Pair) -> Values:
    """Return the cosine of the smallest principal angle between what two updates write, 0..1."""
    return {name: _largest_cosine(first.U, second.U) for name, (first, second) in pair.modules.items()}


def above_chance(first: Tensor, second: Tensor) -> float:
    """Return |Q_1^T Q_2|_F^2 / min(r_1, r_2) less its mean over random subspaces, max(r_1, r_2) / d.

    1 - max(r)/d where one subspace holds the other, 0 on average by chance, -max(r)/d where they are orthogonal. At
    equal ranks the chance level is the r/d of arXiv 2606.19549.

    Parameters
    ----------
    first, second
        (d, r_1) and (d, r_2), orthonormal columns.
    """
    size, ranks = first.shape[0], (first.shape[1], second.shape[1])
    overlap = float((first.T @ second).double().square().sum()) / min(ranks)
    return overlap - max(ranks) / size


def _largest_cosine(first: Tensor, second: Tensor) -> float:
    # Rounding can lift a cosine of 1 over it.
    return min(1.0, float(torch.linalg.matrix_norm((first.T @ second).double(), ord=2)))


PAIR_ROWS = (
    PairSignal(
        key="overlap_in",
        family=Family.RANK_SPACE,
        function=overlap_in,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="one d x r by r Gram a module",
        bounds=(-1.0, 1.0),
        direction="higher = more collision in what the updates read",
        source="Omega_A of arXiv 2606.19549, Section 3, less chance",
    ),
    PairSignal(
        key="overlap_out",
        family=Family.RANK_SPACE,
        function=overlap_out,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="one d x r by r Gram a module",
        bounds=(-1.0, 1.0),
        direction="higher = more collision in what the updates write",
        source="Omega_B of arXiv 2606.19549, Section 3, less chance",
    ),
    PairSignal(
        key="closest_in",
        family=Family.RANK_SPACE,
        function=closest_in,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="one d x r by r Gram and an r x r SVD a module: for neighbours",
        bounds=(0.0, 1.0),
        direction="1 = they share a direction that they read",
        source="principal angles (Bjorck and Golub 1973)",
    ),
    PairSignal(
        key="closest_out",
        family=Family.RANK_SPACE,
        function=closest_out,
        resolution=Resolution.MODULE,
        needs=frozenset({Need.WEIGHTS}),
        is_symmetric=True,
        cost="one d x r by r Gram and an r x r SVD a module: for neighbours",
        bounds=(0.0, 1.0),
        direction="1 = they share a direction that they write",
        source="principal angles (Bjorck and Golub 1973)",
    ),
)
