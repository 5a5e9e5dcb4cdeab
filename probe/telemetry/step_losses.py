"""Reads the loss of every optimiser step off the Trainer that a callback is called by."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer


def calling_trainer() -> Any | None:
    """Return the Trainer that this call comes from; None if it comes from none.

    A Trainer hands its callbacks neither itself nor anything that leads to it, and the loss of a step is known to it
    alone: trainers for preferences, or with a fused head, do not train on the loss in the model's output.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer):
            return caller
        frame = frame.f_back
    return None


class StepLosses:
    """Losses of the steps since the last `drain`, kept on their device.

    The trainer's `training_step` is replaced for one call, on the object, and is put back when that call begins. So a
    training that dies leaves nothing behind, though no event tells of its death.
    """

    def __init__(self) -> None:
        self._trainer: Any = None
        self._replaced: Any = None
        self._values: list[Tensor] = []
        self._steps: list[tuple[int, int]] = []

    def watch(self, trainer: Any) -> None:
        """Take what the trainer adds to its own loss at its next micro-batch."""
        self.unwatch()
        training_step = trainer.training_step

        def watched(*args: Any, **kwargs: Any) -> Tensor:
            self.unwatch()
            loss: Tensor = training_step(*args, **kwargs)
            # Copied, because a CUDA graph writes the next loss into the same memory.
            self._values.append(loss.detach().clone())
            return loss

        self._trainer, self._replaced = trainer, vars(trainer).get("training_step")
        trainer.training_step = watched

    def unwatch(self) -> None:
        """Put the trainer's own `training_step` back, if it is not there already."""
        if self._trainer is None:
            return
        del self._trainer.training_step
        if self._replaced is not None:
            self._trainer.training_step = self._replaced
        self._trainer = self._replaced = None

    def end_step(self, step: int) -> None:
        """Close a step over all micro-batches since the one before; one that none was seen of is unknown, not 0."""
        num_new = len(self._values) - sum(num for _, num in self._steps)
        if num_new > 0:
            self._steps.append((step, num_new))

    def drain(self) -> list[tuple[int, float]]:
        """Return (step, loss) of every step since the last call; this is where the device is waited for.

        The trainer has divided the loss of a micro-batch by their number, or by that of all items; so a step's loss is
        the sum.
        """
        if not self._steps:
            return []
        values = iter(torch.stack(self._values).tolist())
        drained = [(step, sum(next(values) for _ in range(num))) for step, num in self._steps]
        self._values, self._steps = [], []
        return drained
