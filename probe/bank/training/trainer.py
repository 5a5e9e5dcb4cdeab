"""The library's Trainer, made to train our batches in our order, in silence."""

# ruff: noqa: ARG002 - the Trainer calls with everything

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from probe.bank.training.batches import Batch
from probe.bank.training.settings import Training

OnStep = Callable[[int, int], None]
"""Called with steps done and steps in all."""


class BatchTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """A Trainer over batches that are made already: one batch a step, in the given order.

    Gradient clipping at 1, AdamW without decay and every event of its callbacks are the library's.

    Parameters
    ----------
    model
        A PEFT model; what requires a gradient is trained.
    batches
        Of all epochs.
    batch_loss
        Batch -> mean loss, a scalar.
    training, seed
        Rates, and what the library seeds its own generators with; no draw of theirs reaches the result.
    callbacks
        Further events.
    """

    def __init__(
        self,
        model: Any,
        batches: Sequence[Batch],
        batch_loss: Callable[[Batch], Tensor],
        training: Training,
        seed: int,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        super().__init__(model=model, args=_arguments(model, training, seed), callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)
        self._batches, self._batch_loss, self._training = batches, batch_loss, training
        self._losses: list[Tensor] = []

    @property
    def step_losses(self) -> tuple[float, ...]:
        """Loss of each step so far, nats."""
        return tuple(torch.stack(self._losses).tolist())

    def get_train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches as they are: neither shuffled nor collated."""
        return DataLoader(self._batches, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Return a linear rise that ends in a cosine to 0."""
        share = self._training.warmup_share
        self.lr_scheduler = LambdaLR(self.optimizer, lambda step: rate_share(step, num_training_steps, share))
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **_options: Any) -> Tensor:
        """Return the loss of one batch and keep it."""
        loss = self._batch_loss(inputs)
        self._losses.append(loss.detach())
        return loss


class StepReport(TrainerCallback):  # type: ignore[misc]
    """Says after each step how far training is."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report."""
        self._on_step(state.global_step, state.max_steps)


def rate_share(step: int, num_steps: int, warmup_share: float) -> float:
    """Return the share of the peak learning rate at `step`: a linear rise, then a cosine to 0."""
    warmup = max(1, round(warmup_share * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _arguments(model: Any, training: Training, seed: int) -> TrainingArguments:
    arguments = TrainingArguments(
        # It must exist; nothing is saved.
        output_dir=tempfile.gettempdir(),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        learning_rate=training.learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=seed,
        use_cpu=model.device.type == "cpu",
        # The Trainer would switch off the cache with which the base generates.
        use_cache=model.config.use_cache,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    arguments._n_gpu = 1  # several devices would make it replicate the model, for batches that are not tensors
    return arguments
