"""All pairs of a bank over the time of the bare matrix products that it cannot do without.

Run it with `python -m tests.bench.all_pairs`; `make bench` does. The bare products are the same tiles, and nothing
else: U^T U and V^T V on and above the diagonal, float32. Both alternate in one process; medians count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from probe.all_pairs import NUM_NEIGHBOURS, TILE_COLUMNS, all_pairs
from probe.profiles import AdapterProfile, ModuleProfile
from probe.signals import PAIR_SIGNALS, Pair, measure_pair
from tests.bench.child import cost_of
from tests.bench.machine import describe_machine

WIDTH, RANK = 4096, 16
SIZES = (10, 30, 100, 300, 1000)
REPEATS = 3
FOR_NEIGHBOURS = ("closest_in", "closest_out", "sign_conflict")
MODULE = "model.layers.0.self_attn.q_proj"
MIB = 2**20


def bank(count: int) -> list[AdapterProfile]:
    """Return random profiles of one square module."""
    generator = torch.Generator().manual_seed(0)

    def orthonormal() -> torch.Tensor:
        return torch.linalg.qr(torch.randn(WIDTH, RANK, generator=generator))[0].contiguous()

    def spectrum() -> torch.Tensor:
        return torch.rand(RANK, generator=generator).sort(descending=True).values + 0.1

    return [AdapterProfile({MODULE: ModuleProfile(orthonormal(), spectrum(), orthonormal())}, 1) for _ in range(count)]


def bare_seconds(profiles: Sequence[AdapterProfile]) -> float:
    """Return the time of the matrix products of `all_pairs`, and of nothing else: the stacks are made before."""
    left, right = (
        torch.cat([getattr(profile.modules[MODULE], side) for profile in profiles], dim=1) for side in ("U", "V")
    )
    return seconds_of(lambda: _products(left, right))


def _products(left: torch.Tensor, right: torch.Tensor) -> None:
    size = TILE_COLUMNS // RANK * RANK
    for stack in (left, right):
        for row in range(0, stack.shape[1], size):
            for column in range(row, stack.shape[1], size):
                torch.mm(stack[:, row : row + size].T, stack[:, column : column + size])


def seconds_of(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def peak_bytes(count: int) -> int:
    """Return the peak memory of comparing all pairs over that of the bank's profiles."""
    return cost_of(partial(bank, count), compare).peak_bytes


def compare(profiles: Sequence[AdapterProfile]) -> None:
    """Compare all pairs, for a process of its own."""
    all_pairs(profiles)


def neighbour_seconds(profiles: Sequence[AdapterProfile]) -> float:
    """Return the time of the costlier signals for one adapter and its neighbours."""
    others = profiles[1 : 1 + NUM_NEIGHBOURS]
    pairs = [Pair(profiles[0], other) for other in others]
    return seconds_of(lambda: [measure_pair(PAIR_SIGNALS[key], pair) for pair in pairs for key in FOR_NEIGHBOURS])


def main() -> None:
    """Print the growth over the size of the bank."""
    console = Console()
    console.print(describe_machine())
    headings = ("adapters", "all pairs", "bare products", "ratio", "peak MiB over bank", f"{NUM_NEIGHBOURS} neighbours")
    table = Table(*headings, title=f"one {WIDTH}^2 module, rank {RANK}; aim: ratio <= 2")
    for count in SIZES:
        profiles = bank(count)
        all_pairs(profiles[:2])
        ours, bare = [], []
        for _ in range(REPEATS):
            ours.append(seconds_of(lambda: all_pairs(profiles)))  # noqa: B023 - called at once
            bare.append(bare_seconds(profiles))
        medians = statistics.median(ours), statistics.median(bare)
        table.add_row(
            str(count),
            f"{medians[0]:.3f} s",
            f"{medians[1]:.3f} s",
            f"{medians[0] / medians[1]:.2f}",
            f"{peak_bytes(count) / MIB:.0f}",
            f"{neighbour_seconds(profiles) * 1e3:.0f} ms",
        )
    console.print(table)


if __name__ == "__main__":
    main()
