"""LoRA on a CPU by group against vLLM's own operations, side by side in one run: medians over shapes of the demo bank.

Run it with `python -m tests.bench.cpu_lora`; `make bench` does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from vllm.lora.ops.torch_ops import lora_ops

from serve import cpu_lora

NUM_SLOTS, RANK, WIDTH = 8, 16, 576
REPEATS = 15
CASES = {
    "decode, 8 tokens, 1 adapter": (8, 1),
    "prefill, 120 tokens, 1 adapter": (120, 1),
    "120 tokens, 4 adapters": (120, 4),
}

Shrink = Callable[[Tensor, Tensor, Tensor, Tensor, float], object]


def median_seconds(shrink: Shrink, num_tokens: int, num_adapters: int) -> float:
    """Return the median time of one product of every token with its adapter's A."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_tokens, WIDTH, generator=generator)
    weights = torch.randn(NUM_SLOTS, 1, RANK, WIDTH, generator=generator)
    slots = torch.arange(num_tokens) % num_adapters
    output = torch.zeros(num_tokens, RANK)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        shrink(inputs, weights, output, slots, 1.0)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Print the medians and their ratio."""
    table = Table("case", "vLLM", "by group", "ratio", title=f"LoRA shrink on CPU, rank {RANK}, width {WIDTH}")
    for case, (num_tokens, num_adapters) in CASES.items():
        theirs = median_seconds(lora_ops.bgmv_shrink, num_tokens, num_adapters)
        ours = median_seconds(cpu_lora.bgmv_shrink, num_tokens, num_adapters)
        table.add_row(case, f"{theirs * 1e6:.0f} us", f"{ours * 1e6:.0f} us", f"{theirs / ours:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
