"""How far cosines of gradient sketches are from those of the gradients, over sketch sizes, on the demo bank.

Run it with `python -m tests.bench.sketch_error`; it takes about two minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.calibration.backward import run_backward, watching
from probe.calibration.examples import encode_examples
from probe.calibration.model_parts import block_linears
from probe.calibration.sketch import SKETCH_SIZE, gaussian
from probe.embedded import export_embedded_base
from probe.rows import read_rows

BANK = Path("probe/bank/data/demo")
LAYERS = (0, 15, 29)
NUM_ROWS = 48
SIZES = (16, 32, 64, 128)
NUM_DRAWS = 4
"""Sketches of each size, each drawn anew."""


def dense_gradients(model: Any, tokenizer: Any, linears: Mapping[str, nn.Linear], folder: Path) -> dict[str, Tensor]:
    """Return module name -> summed gradient (d_out, d_in) of an adapter's calibration rows at the base."""
    examples = encode_examples(tokenizer, read_rows(folder / "calibration.jsonl")[:NUM_ROWS])
    sums = {name: torch.zeros_like(module.weight) for name, module in linears.items()}

    def add(name: str, x: Tensor, delta: Tensor) -> None:
        sums[name] += delta.flatten(0, 1).T @ x.flatten(0, 1)

    with watching(linears, lambda _name, x: x, add):
        for batch in examples.batches():
            run_backward(model, batch, examples.pad_id)
    return sums


def cosine(first: Tensor, second: Tensor) -> float:
    """Return the cosine of two matrices."""
    return float(cosine_similarity(first.flatten(), second.flatten(), dim=0))


def errors(first: Mapping[str, Tensor], second: Mapping[str, Tensor], size: int) -> list[float]:
    """Return sketched less true cosine, for each module and draw."""
    found = []
    for name, G in first.items():  # noqa: N806 - a gradient, as in the mathematics
        true = cosine(G, second[name])
        for draw in range(NUM_DRAWS):
            left, right = (gaussian(f"{draw}|{side}|{name}", G.shape[side], size) for side in (0, 1))
            found.append(cosine(left.T @ G @ right, left.T @ second[name] @ right) - true)
    return found


def main() -> None:
    """Print the root mean square error of a cosine of one module, for each size."""
    base = export_embedded_base(Path("var/base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval().requires_grad_(False)
    linears = {n: m for n, m in block_linears(model).items() if any(f"layers.{number}." in n for number in LAYERS)}
    folders = sorted(path.parent for path in BANK.glob("*/calibration.jsonl"))
    gradients = {folder.name: dense_gradients(model, tokenizer, linears, folder) for folder in folders}
    table = Table("k", "cosine of one module, RMS error", title=f"Gradient sketches, {len(gradients)} demo adapters")
    for size in SIZES:
        seen = [e for pair in combinations(gradients.values(), 2) for e in errors(*pair, size)]
        rms = torch.tensor(seen).square().mean().sqrt()
        table.add_row(f"{size}{' (ours)' if size == SKETCH_SIZE else ''}", f"{float(rms):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
