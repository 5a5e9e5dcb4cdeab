"""What MergeProbeCallback adds to the time of a training: alternated trainings on the embedded base, paired.

Run it with `python -m tests.bench.callback`; minutes on a CPU, where one that is shared does better with
OMP_NUM_THREADS=1. A training is short (50 steps of 2 rows), which counts against the callback: its three checkpoints
cost the same in a long one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import probe.bank
from probe.bank.training import Training, draw_a_matrices
from probe.embedded import export_embedded_base
from probe.encoding import encode_row
from probe.reference import quiet_peft
from probe.rows import Row, read_rows
from probe.telemetry.callback import MergeProbeCallback
from tests.bench.machine import describe_machine
from tests.bench.ratios import CONFIDENCE, paired_ratio

ROWS = Path(probe.bank.__file__).parent / "data" / "demo" / "math" / "calibration.jsonl"
NUM_PAIRS = 6
NUM_STEPS = 50
BATCH_ROWS = 2
RECIPE = Training(rank=16, modules="attention+mlp", learning_rate=1e-3, alpha=32)
EVENTS = ("on_train_begin", "on_step_begin", "on_substep_end", "on_step_end", "on_save", "on_train_end")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one training; the processor's are steadier where the machine is shared, but leave out waiting."""

    wall: float
    cpu: float


class Bench:
    """One model, trained again and again from the same start, with the callback or without."""

    def __init__(self, folder: Path) -> None:
        base = export_embedded_base(Path("var/base"))
        with quiet_peft():
            self._model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), RECIPE.lora_config())
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._rows = read_rows(ROWS)
        self._folder = folder

    def train(self, *callbacks: TrainerCallback) -> Times:
        """Return how long a training takes."""
        self._reset()
        trainer = Trainer(
            model=self._model,
            args=self._arguments(),
            train_dataset=[self._encoded(row) for row in self._rows],
            data_collator=self._batch,
            processing_class=self._tokenizer,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(PrinterCallback)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        return Times(time.perf_counter() - wall, time.process_time() - cpu)

    def callback(self) -> MergeProbeCallback:
        """Return a callback as a user would make it."""
        return MergeProbeCallback(tempfile.mkdtemp(dir=self._folder), domain="math", calibration_rows=self._rows)

    def _reset(self) -> None:
        draw_a_matrices(self._model, a_seed=0)
        for name, parameter in self._model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.zeros_(parameter)

    def _arguments(self) -> TrainingArguments:
        return TrainingArguments(
            output_dir=str(self._folder / "trainer"),
            max_steps=NUM_STEPS,
            per_device_train_batch_size=BATCH_ROWS,
            learning_rate=RECIPE.learning_rate,
            save_strategy="no",
            logging_steps=500,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )

    def _encoded(self, row: Row) -> dict[str, list[int]]:
        ids = encode_row(self._tokenizer, row)
        return {
            "input_ids": [*ids.prompt_ids, *ids.answer_ids],
            "labels": [-100] * len(ids.prompt_ids) + list(ids.answer_ids),
        }

    def _batch(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        length = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._tokenizer.eos_token_id, "labels": -100}
        return {
            name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
            for name, value in fill.items()
        }


def time_events(callback: TrainerCallback, spent: list[float]) -> None:
    """Let every event of a callback append its seconds to `spent`."""

    def timed(event: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return event(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - began)

        return call

    for name in EVENTS:
        setattr(callback, name, timed(getattr(callback, name)))


def main() -> None:
    """Print the ratios of the times with and without, and the share that is spent inside the callback."""
    console = Console()
    console.print(describe_machine())
    with_it, without, inside = list[Times](), list[Times](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.train()  # the first training meets cold caches
        for pair in range(NUM_PAIRS):
            for is_recorded in (True, False) if pair % 2 else (False, True):
                if is_recorded:
                    callback, spent = bench.callback(), list[float]()
                    time_events(callback, spent)
                    with_it.append(bench.train(callback))
                    inside.append(sum(spent) / (with_it[-1].wall - sum(spent)))
                else:
                    without.append(bench.train())
            console.print(f"pair {pair + 1}: {with_it[-1].wall:.2f} s with, {without[-1].wall:.2f} s without")
    console.print(report(with_it, without, inside))


def report(with_it: Sequence[Times], without: Sequence[Times], inside: Sequence[float]) -> Table:
    """Return the table of ratios."""
    table = Table("", "median", f"{CONFIDENCE:.0%} interval", title=f"{NUM_STEPS} steps of {BATCH_ROWS} rows, CPU")
    for clock in ("wall", "cpu"):
        ratio = paired_ratio([getattr(t, clock) for t in with_it], [getattr(t, clock) for t in without], seed=0)
        table.add_row(f"{clock} time, with / without", f"{ratio.median:.4f}", f"{ratio.low:.4f} to {ratio.high:.4f}")
    share = paired_ratio(inside, [1.0] * len(inside), seed=0)
    table.add_row("wall time inside the callback / rest", f"{share.median:.4f}", f"{share.low:.4f} to {share.high:.4f}")
    return table


if __name__ == "__main__":
    main()
