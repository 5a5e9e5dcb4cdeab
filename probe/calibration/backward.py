"""Forward and backward of calibration rows, with someone listening at every linear module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from probe.calibration.errors import CalibrationError
from probe.calibration.examples import Batch
from probe.calibration.model_parts import Hook, forward_hooks
from probe.reference import answer_logits

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Progress:
    """Tells a caller the share done, 0..1, of a fixed number of steps."""

    num_steps: int
    report: Callable[[float], None] | None

    def done(self, step: int) -> None:
        """Report that `step` steps are done."""
        if self.report:
            self.report(step / self.num_steps)


@contextmanager
def watching(
    linears: Mapping[str, nn.Linear],
    on_input: Callable[[str, Tensor], Seen],
    on_gradient: Callable[[str, Seen, Tensor], None],
) -> Iterator[None]:
    """Listen to inputs on the way forward and to gradients on the way back.

    Parameters
    ----------
    on_input
        Called with the module's name and X (b, T, d_in). Modules that read the very same tensor one after another, as
        q, k and v do, cause one call, under the name of the first.
    on_gradient
        Called with the module's name, what `on_input` gave for its input, and Delta (b, T, d_out), the gradient of
        the loss with respect to what the module writes.
    """
    latest: list[tuple[Tensor, Seen]] = []

    def listening(name: str) -> Hook:
        def listen(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if not latest or latest[0][0] is not inputs[0]:
                latest[:] = [(inputs[0], on_input(name, inputs[0].detach()))]
            seen = latest[0][1]
            output.register_hook(lambda delta: on_gradient(name, seen, delta))  # type: ignore[no-untyped-call]

        return listen

    with forward_hooks((module, listening(name)) for name, module in linears.items()):
        yield


def run_backward(model: Any, batch: Batch, pad_id: int) -> tuple[Tensor, Tensor]:
    """Run a batch forward and, from the sum over rows of a row's mean answer log-loss, back to the embeddings.

    No weight gets a gradient, whether it asks for one or not. Since rows do not interact, Delta of a row is the
    gradient of that row's own loss.

    Returns
    -------
    losses
        (rows,): mean nats per answer token, end token included.
    are_right
        (rows,): whether every answer token is the most likely one.

    Raises
    ------
    CalibrationError
        A loss is not finite.
    """
    embedded: list[Tensor] = []

    def require_gradient(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        embedded.append(output.requires_grad_())

    with torch.enable_grad(), forward_hooks([(model.get_input_embeddings(), require_gradient)]):
        logits, targets = answer_logits(model, batch.rows, pad_id)
        losses = _row_means(batch, cross_entropy(logits.float(), targets, reduction="none"))
        _check_finite(batch, losses.detach())
        torch.autograd.grad(losses.sum(), embedded)
    hits = (logits.detach().argmax(dim=-1) == targets).float()
    return losses.detach().cpu(), (_row_means(batch, hits) == 1).cpu()


def _row_means(batch: Batch, values: Tensor) -> Tensor:
    """Average over each row's answer tokens: (answer tokens of all rows,) -> (rows,)."""
    counts = [len(row.answer_ids) for row in batch.rows]
    return torch.stack([part.mean() for part in torch.split(values, counts)])


def _check_finite(batch: Batch, losses: Tensor) -> None:
    for number, loss in zip(batch.numbers, losses.tolist(), strict=True):
        if not torch.isfinite(torch.tensor(loss)):
            raise CalibrationError(
                f"calibration row {number + 1} has a loss of {loss}; expected a finite one. "
                "Check that the adapter was trained on this base model and has not diverged."
            )
