"""Principal directions of a few token vectors, by a decomposition of the size of their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.factors import column_signs, tolerance


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Principal directions of n vectors of width d.

    Attributes
    ----------
    P
        (d, q), orthonormal columns; q is smaller than asked for where the vectors span less.
    energy
        (q,), mean squared length along each, descending.
    floor
        Mean squared length along each of the other d - q directions, on average; 0 where there is no other.
    """

    P: Tensor
    energy: Tensor
    floor: float


def principal_directions(vectors: Tensor, num_directions: int) -> Directions:
    """Find the directions along which `vectors` (n, d) are longest; the result is float32, on the CPU.

    Nothing is centred here: subtract the mean beforehand for variances. What is decomposed is the (n, n) Gram matrix,
    in float64, since it squares the range of lengths; signs are fixed.
    """
    num_vectors, width = vectors.shape
    wide = vectors.double()
    values, weights = torch.linalg.eigh(wide @ wide.T / num_vectors)
    is_kept = values > tolerance(max(vectors.shape)) * values[-1]
    num_kept = min(num_directions, width, int(is_kept.sum()))
    energy = values.flip(0)[:num_kept]
    # The QR makes orthonormal what division by small roots has left only nearly so.
    basis, _ = torch.linalg.qr(wide.T @ weights.flip(1)[:, :num_kept])
    rest, num_others = float((values.sum() - energy.sum()).clamp(min=0)), width - num_kept
    return Directions(
        P=(basis * column_signs(basis)).float().cpu(),
        energy=energy.float().cpu(),
        floor=rest / num_others if num_others else 0.0,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread of the CPU inside the block.

    A decomposition of 256 rows is no faster on two threads; beside a busy engine it is up to a hundred times slower,
    since its many short parts all wait for whichever thread the engine has displaced.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
