"""Merging in factor space against PEFT, and whole adapters of an 8B-shaped model: time, peak memory, share of I/O.

Run it with `python -m tests.bench.merging`; `make bench` does. Each call runs in a process of its own; ours and PEFT's
alternate, medians count.
"""

# ruff: noqa: N806 - B, A and the like are what every LoRA paper calls these matrices

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from probe.adapter_io import read_adapter, write_adapter
from probe.factors import LoraFactor, LoraUpdate
from probe.operators import Recipe, merge
from tests.bench.child import Cost, cost_of
from tests.bench.machine import describe_machine

NUM_MEMBERS, RANK, WIDTH, INNER, NUM_LAYERS = 5, 16, 4096, 14336, 32
REPEATS = 3
OPERATORS = ("ta", "pico", "ties", "ctm")
BLOCK = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH // 4, WIDTH),
    "self_attn.v_proj": (WIDTH // 4, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
MIB = 2**20


class OneModule(nn.Module):
    """The smallest base that PEFT can wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Linear(WIDTH, WIDTH, bias=False)


def one_module() -> list[tuple[Tensor, Tensor]]:
    """Return (B, A) of every member for one square module."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    return [(draw(WIDTH, RANK) / WIDTH, draw(RANK, WIDTH)) for _ in range(NUM_MEMBERS)]


def our_members() -> list[LoraUpdate]:
    """Return the members as we hold them, after a first small merge."""
    small = LoraUpdate({"m": LoraFactor(B=torch.eye(64, 2), A=torch.eye(2, 64))})
    merge([small, small], Recipe("svd"))
    return [LoraUpdate({"m": LoraFactor(B=B, A=A)}) for B, A in one_module()]


def merge_ours(members: Sequence[LoraUpdate]) -> LoraUpdate:
    """Return the best rank-16 approximation of the members' sum."""
    return merge(members, Recipe("svd", rank=RANK)).update


def peft_model() -> Any:
    """Return a model of one linear layer with the members loaded as PEFT adapters of scale 1."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["m"])
    model: Any = get_peft_model(OneModule(), config, adapter_name="0")
    for index, (B, A) in enumerate(one_module()):
        if index:
            model.add_adapter(str(index), config)
        layer = model.base_model.model.m
        layer.lora_A[str(index)].weight.data.copy_(A)
        layer.lora_B[str(index)].weight.data.copy_(B)
    return model


def merge_peft(model: Any) -> LoraUpdate:
    """Return what PEFT makes of the members with combination_type="svd"."""
    names = [str(index) for index in range(NUM_MEMBERS)]
    model.add_weighted_adapter(names, [1.0] * NUM_MEMBERS, "merged", combination_type="svd", svd_rank=RANK)
    layer = model.base_model.model.m
    factor = LoraFactor(B=layer.lora_B["merged"].weight.detach(), A=layer.lora_A["merged"].weight.detach())
    return LoraUpdate({"m": factor})


def kept_energy(update: LoraUpdate) -> float:
    """Return 1 - |D - M|^2 / |D|^2, D the dense sum of the members: an oracle that neither side computes."""
    D = sum((B.double() @ A.double() for B, A in one_module()), torch.zeros(WIDTH, WIDTH).double())
    factor = update.factors["m"]
    rest = D - factor.B.double() @ factor.A.double()
    return 1 - float(rest.square().sum() / D.square().sum())


def against_peft(console: Console) -> None:
    """Print one module's merge, ours and PEFT's."""
    ours: list[Cost] = []
    theirs: list[Cost] = []
    for _ in range(REPEATS):
        ours.append(cost_of(our_members, merge_ours))
        theirs.append(cost_of(peft_model, merge_peft))
    seconds = [statistics.median(cost.seconds for cost in costs) for costs in (ours, theirs)]
    peaks = [statistics.median(cost.peak_bytes for cost in costs) for costs in (ours, theirs)]
    kept = [kept_energy(costs[0].result) for costs in (ours, theirs)]
    table = Table(
        "", "ours", "PEFT svd", "ratio", "aim", title=f"{NUM_MEMBERS} x rank {RANK} -> rank {RANK}, {WIDTH}^2"
    )
    ratio = seconds[1] / seconds[0]
    table.add_row("median time", f"{seconds[0] * 1e3:.0f} ms", f"{seconds[1]:.1f} s", f"{ratio:.0f}x faster", ">= 100x")
    share = peaks[0] / peaks[1]
    table.add_row("peak memory", f"{peaks[0] / MIB:.0f} MiB", f"{peaks[1] / MIB:.0f} MiB", f"{share:.1%}", "< 5%")
    table.add_row("kept energy", f"{kept[0]:.7f}", f"{kept[1]:.7f}", f"{abs(kept[0] - kept[1]):.1e} apart", "< 1e-5")
    console.print(table)


def write_8b_members(folder: Path) -> list[Path]:
    """Write random adapters for all seven modules of 32 layers, in bfloat16."""
    folders = []
    for index in range(NUM_MEMBERS):
        generator = torch.Generator().manual_seed(index)
        factors = {
            f"model.layers.{layer}.{module}": LoraFactor(
                B=torch.randn(d_out, RANK, generator=generator) / d_out, A=torch.randn(RANK, d_in, generator=generator)
            )
            for layer in range(NUM_LAYERS)
            for module, (d_out, d_in) in BLOCK.items()
        }
        folders.append(folder / f"member-{index}")
        write_adapter(folders[-1], LoraUpdate(factors), "8b")
    return folders


def merge_folders(operator: str, folders: Sequence[Path], out: Path, _nothing: object) -> dict[str, float]:
    """Read, merge and write whole adapters; return the seconds of each."""
    marks = [time.perf_counter()]
    members = [read_adapter(folder) for folder in folders]
    marks.append(time.perf_counter())
    merged = merge(members, Recipe(operator, rank=RANK))
    marks.append(time.perf_counter())
    write_adapter(out, merged.update, "8b")
    marks.append(time.perf_counter())
    return {name: end - start for name, start, end in zip(("read", "merge", "write"), marks, marks[1:], strict=False)}


def whole_adapters(console: Console) -> None:
    """Print whole-adapter merges of an 8B-shaped model."""
    size = sum((d_out + d_in) * RANK for d_out, d_in in BLOCK.values()) * NUM_LAYERS * 4 * NUM_MEMBERS
    title = (
        f"{NUM_MEMBERS} adapters of rank {RANK} on {NUM_LAYERS} x {len(BLOCK)} modules ({size / MIB:.0f} MiB float32)"
    )
    table = Table("operator", "seconds", "read", "merge", "write", "share of I/O", "peak GiB", title=title)
    with tempfile.TemporaryDirectory() as work:
        folders = write_8b_members(Path(work))
        for operator in OPERATORS:
            run = partial(merge_folders, operator, folders, Path(work) / operator)
            cost = cost_of(our_members, run)
            parts = cost.result
            table.add_row(
                operator,
                f"{cost.seconds:.1f}",
                *(f"{parts[name]:.1f}" for name in ("read", "merge", "write")),
                f"{(parts['read'] + parts['write']) / cost.seconds:.0%}",
                f"{cost.peak_bytes / 2**30:.2f}",
            )
    console.print(table)


def main() -> None:
    """Print the machine and both tables."""
    console = Console()
    console.print(describe_machine())
    against_peft(console)
    whole_adapters(console)


if __name__ == "__main__":
    main()
