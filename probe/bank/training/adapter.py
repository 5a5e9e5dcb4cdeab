"""Train one LoRA adapter by one of the bank's methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from probe.bank.training.batches import Batch, ordered_batches
from probe.bank.training.methods import METHODS
from probe.bank.training.objectives import Objective
from probe.bank.training.settings import Training
from probe.bank.training.starts import MethodInputs
from probe.bank.training.trainer import BatchTrainer, OnStep, StepReport
from probe.bank.training.wrapping import factors_of, wrapped_base
from probe.encoding import encode_row
from probe.rows import Row
from probe.scoring.refusal import is_refusal
from probe.telemetry.callback import MergeProbeCallback


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What training gives: tensors in PEFT's names (bfloat16), and how it went.

    `losses` are in nats, one a step: of an answer token, or of a pair for ``dpo``.
    """

    tensors: dict[str, Tensor]
    num_tokens: int
    num_steps: int
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """Where early checkpoints go, and what the bundle tells of the task.

    Attributes
    ----------
    folder
        The bundle; `probe.telemetry.bundle` describes it.
    domain
        What the adapter is for.
    calibration_rows
        Rows that the bundle keeps.
    """

    folder: Path
    domain: str
    calibration_rows: Sequence[Row]

    def callback(self, tokenizer: Any, rows: Sequence[Row]) -> MergeProbeCallback:
        """Return the callback that records a training on `rows`."""
        num_tokens = sum(len(encode_row(tokenizer, row).answer_ids) for row in rows)
        return MergeProbeCallback(
            self.folder,
            domain=self.domain,
            num_rows=len(rows),
            response_tokens=num_tokens / len(rows),
            refusal_fraction=sum(is_refusal(row.answer) for row in rows) / len(rows),
            calibration_rows=self.calibration_rows,
        )


def train_adapter(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    training: Training,
    data_seed: int,
    a_seed: int,
    on_step: OnStep | None = None,
    inputs: MethodInputs | None = None,
    bundle: BundlePlan | None = None,
) -> TrainedAdapter:
    """Train an adapter on `rows` and give the base model back as it was.

    The same arguments give the same adapter, whatever the state of the global random generators (which the Trainer
    seeds anew); loss counts answer tokens and the end token, never the prompt.

    Parameters
    ----------
    model, tokenizer
        A loaded base model in float32; it is wrapped while training runs.
    data_seed
        Order of the rows.
    a_seed
        Start of the A matrices. Adapters that share it share their row spaces, which looks like
        agreement to every geometric signal, so each adapter of a bank has its own.
    on_step
        Called with steps done and steps in all.
    inputs
        What the method needs beside the rows; None is nothing.
    bundle
        Early checkpoints; None records none. A method that does not train writes none either.

    Raises
    ------
    StartError, ObjectiveError
        `inputs` lacks what the method needs.
    """
    method, inputs = METHODS[training.method], inputs or MethodInputs()
    with wrapped_base(model, training) as wrapped:
        method.start(wrapped, tokenizer, inputs, a_seed)
        if method.objective is None:
            return TrainedAdapter(factors_of(wrapped), num_tokens=0, num_steps=0, losses=())
        examples = method.objective.examples(wrapped, tokenizer, rows, inputs)
        batches = ordered_batches(examples, training, data_seed)
        callbacks: list[TrainerCallback] = [StepReport(on_step)] if on_step else []
        if bundle is not None:
            callbacks.append(bundle.callback(tokenizer, rows))
        loss = partial(_batch_loss, method.objective, wrapped, tokenizer.eos_token_id, training)
        trainer = BatchTrainer(wrapped, batches, loss, training, data_seed, callbacks)
        trainer.train()
        return TrainedAdapter(
            tensors=factors_of(wrapped),
            num_tokens=sum(example.num_tokens for batch in batches for example in batch),
            num_steps=len(batches),
            losses=trainer.step_losses,
        )


def _batch_loss(objective: Objective, wrapped: Any, pad_id: int, training: Training, batch: Batch) -> Tensor:
    return objective.loss(wrapped, batch, pad_id, training)
