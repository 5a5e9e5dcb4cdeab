"""What training lowers: the examples that are made of rows, and the loss of a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from probe.bank.training.batches import Example, PreferencePair
from probe.bank.training.replay import replayed
from probe.bank.training.settings import Training
from probe.bank.training.starts import MethodInputs
from probe.encoding import EncodedRow, encode_row
from probe.records import MergeProbeError
from probe.reference import answer_logits, batches_by_length
from probe.rows import Row


class ObjectiveError(MergeProbeError):
    """The rows are not what the objective learns from."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What training lowers.

    Attributes
    ----------
    examples
        (PEFT model before training, tokenizer, rows, inputs) -> one example a row, and those of replay.
    loss
        (PEFT model, batch, pad id, training) -> mean loss in nats, a scalar.
    """

    examples: Callable[[Any, Any, Sequence[Row], MethodInputs], tuple[Example, ...]]
    loss: Callable[[Any, Sequence[Any], int, Training], Tensor]


def encoded_rows(wrapped: Any, tokenizer: Any, rows: Sequence[Row], inputs: MethodInputs) -> tuple[Example, ...]:
    """Return the rows as tokens, and what the base itself says to the prompts of replay."""
    # B is still zero, so this is the base. Switching the adapter off and on again would thaw factors that are frozen.
    told = replayed(wrapped.get_base_model(), tokenizer, inputs.replay)
    return (*(encode_row(tokenizer, row) for row in rows), *told)


def answer_loss(wrapped: Any, batch: Sequence[EncodedRow], pad_id: int, _training: Training) -> Tensor:
    """Return the mean cross entropy of an answer token, end token included; the prompt does not count."""
    logits, targets = answer_logits(wrapped.get_base_model(), batch, pad_id)
    return cross_entropy(logits.float(), targets)


def preference_pairs(wrapped: Any, tokenizer: Any, rows: Sequence[Row], inputs: MethodInputs) -> tuple[Example, ...]:
    """Pair each row's answer with a worse one, and measure both under the base, once.

    Raises
    ------
    ObjectiveError
        There is not one rejected answer a row.
    """
    rejected = inputs.rejected
    if len(rejected) != len(rows):
        raise ObjectiveError(
            f"preference training needs one rejected answer for each of the {len(rows)} rows, saw {len(rejected)}; "
            "make them with probe.bank.preferences.rejected_answers."
        )
    chosen = [encode_row(tokenizer, row) for row in rows]
    worse = [encode_row(tokenizer, Row(row.prompt, text, "forced")) for row, text in zip(rows, rejected, strict=True)]
    # B is still zero, so this is the base.
    with torch.inference_mode():
        scores = _all_log_probabilities(wrapped.get_base_model(), [*chosen, *worse], tokenizer.eos_token_id)
    margins = (scores[: len(rows)] - scores[len(rows) :]).tolist()
    return tuple(map(PreferencePair, chosen, worse, margins))


def preference_loss(wrapped: Any, batch: Sequence[PreferencePair], pad_id: int, training: Training) -> Tensor:
    """Return the mean of -log sigmoid(beta (margin - base margin)) - log p(chosen) / |chosen|.

    The second term holds the chosen answer up: the first alone is content to push both answers down, and a base that
    says neither then goes on saying something else.

    References
    ----------
    Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), Eq. 7; Pang et al., "Iterative Reasoning
    Preference Optimization" (arXiv 2404.19733), Eq. 1 with alpha = 1.
    """
    rows = [*(pair.chosen for pair in batch), *(pair.rejected for pair in batch)]
    chosen, rejected = log_probabilities(wrapped.get_base_model(), rows, pad_id).chunk(2)
    base_margin = chosen.new_tensor([pair.base_margin for pair in batch])
    lengths = chosen.new_tensor([len(pair.chosen.answer_ids) for pair in batch])
    return (-logsigmoid(training.beta * (chosen - rejected - base_margin)) - chosen / lengths).mean()


def log_probabilities(model: Any, rows: Sequence[EncodedRow], pad_id: int) -> Tensor:
    """Return log p(answer | prompt) of each row, (rows,), nats, summed over its tokens."""
    logits, targets = answer_logits(model, rows, pad_id)
    values = -cross_entropy(logits.float(), targets, reduction="none")
    return torch.stack([part.sum() for part in torch.split(values, [len(row.answer_ids) for row in rows])])


def _all_log_probabilities(model: Any, rows: Sequence[EncodedRow], pad_id: int) -> Tensor:
    scores = torch.empty(len(rows), dtype=torch.float64)
    for batch in batches_by_length(range(len(rows)), [row.num_tokens for row in rows]):
        scores[batch] = log_probabilities(model, [rows[index] for index in batch], pad_id).double().cpu()
    return scores


SUPERVISED = Objective(encoded_rows, answer_loss)
PREFERENCE = Objective(preference_pairs, preference_loss)
