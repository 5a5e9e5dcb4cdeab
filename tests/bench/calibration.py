"""The calibration pass against a plain LoRA forward and backward of the same rows, alternated in one process.

Run it with `python -m tests.bench.calibration`; it takes about five minutes on two quiet cores.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from probe.adapter_io import read_adapter
from probe.calibration import calibrate, calibrate_base
from probe.calibration.examples import Batch, Examples, encode_examples
from probe.embedded import export_embedded_base
from probe.reference import answer_logits, quiet_peft
from probe.rows import read_rows
from tests.bench.machine import describe_machine
from tests.bench.ratios import CONFIDENCE, paired_ratio

ADAPTER = Path("probe/bank/data/demo/math")
CACHE = Path("var/base")
NUM_PAIRS = 6
AIM = 1.3
"""What the checkpoint pass may cost, in plain forwards and backwards."""


def load_model(base: Path) -> Any:
    """Load the embedded base model in float32."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def train_step(wrapped: Any, batch: Batch, pad_id: int) -> None:
    """Run what a training step runs but the optimiser: the same loss, and gradients of all factors."""
    logits, targets = answer_logits(wrapped.get_base_model(), batch.rows, pad_id)
    losses = cross_entropy(logits, targets, reduction="none")
    per_row = torch.split(losses, [len(row.answer_ids) for row in batch.rows])
    torch.autograd.backward(torch.stack([row.mean() for row in per_row]).sum())
    wrapped.zero_grad()


def trainer(base: Path, examples: Examples) -> Callable[[], object]:
    """Return what runs all rows as plain LoRA training does."""
    with quiet_peft():
        wrapped = PeftModel.from_pretrained(load_model(base), str(ADAPTER), is_trainable=True)
    return lambda: [train_step(wrapped, batch, examples.pad_id) for batch in examples.batches()]


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Time both, one right after the other, in the order A B, B A, A B and so on, after a warm-up of each."""
    times: tuple[list[float], list[float]] = ([], [])
    work = (first, second)
    for each in work:
        each()
    for pair in range(NUM_PAIRS):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            times[which].append(seconds_of(work[which]))
    return times


def main() -> None:
    """Print medians and the ratio beside the aim."""
    machine = describe_machine()
    base = export_embedded_base(CACHE)
    tokenizer, model = AutoTokenizer.from_pretrained(base), load_model(base)
    rows, update = read_rows(ADAPTER / "calibration.jsonl"), read_adapter(ADAPTER)
    examples, at_base = encode_examples(tokenizer, rows), calibrate_base(model, tokenizer, rows)
    passes, steps = alternate(lambda: calibrate(model, tokenizer, rows, update, base=at_base), trainer(base, examples))
    ratio = paired_ratio(passes, steps, seed=0)
    table = Table("", "median", title=f"Calibration pass, {len(rows)} rows, {examples.num_tokens} tokens")
    table.add_row("threads", str(torch.get_num_threads()))
    table.add_row("checkpoint pass", f"{statistics.median(passes):.2f} s")
    table.add_row("plain LoRA forward and backward", f"{statistics.median(steps):.2f} s")
    interval = f"{ratio.low:.2f} to {ratio.high:.2f}, {CONFIDENCE:.0%} of {ratio.num_pairs} pairs"
    table.add_row(f"ratio (aim <= {AIM})", f"{ratio.median:.2f} ({interval})")
    console = Console()
    console.print(table)
    console.print("python -m tests.bench.calibration")
    console.print_json(json.dumps(machine))


if __name__ == "__main__":
    main()
