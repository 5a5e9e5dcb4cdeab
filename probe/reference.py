"""The offline reference: the same rows and adapters as the engine, with transformers and PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from probe.encoding import EncodedRow, encode_row
from probe.records import MergeProbeError
from probe.rows import Answer, Row

# Tokens of one padded batch; larger ones gain nothing on two cores and cost memory for logits.
BATCH_TOKENS = 2048


class ReferenceLoadError(MergeProbeError):
    """The reference cannot load a base model or adapter, or cannot read a row."""


def hidden_states(model: Any, encoded: Sequence[EncodedRow], pad_id: int, cache: Any = None) -> Tensor:
    """Run right-padded rows through the blocks and return the last hidden states, (rows, width, d).

    Padding on the right needs no mask: a causal model never looks there.

    Parameters
    ----------
    cache
        If given, an empty key-value cache of transformers, which is filled with every token.
    """
    ids = torch.full((len(encoded), max(row.num_tokens for row in encoded)), pad_id, dtype=torch.long)
    for index, row in enumerate(encoded):
        ids[index, : row.num_tokens] = torch.tensor(row.prompt_ids + row.answer_ids)
    run = model.model(input_ids=ids.to(model.device), past_key_values=cache, use_cache=cache is not None)
    hidden: Tensor = run.last_hidden_state
    return hidden


def answer_logits(model: Any, encoded: Sequence[EncodedRow], pad_id: int, cache: Any = None) -> tuple[Tensor, Tensor]:
    """Run rows as `hidden_states` does and return the logits of their answer tokens, one row after another.

    Only the positions that predict an answer token go through the output matrix, a fifth of the model.

    Returns
    -------
    logits
        (answer tokens of all rows, vocabulary).
    targets
        (answer tokens of all rows,): the tokens to be predicted.
    """
    hidden = hidden_states(model, encoded, pad_id, cache)
    predicts = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    for index, row in enumerate(encoded):
        predicts[index, len(row.prompt_ids) - 1 : row.num_tokens - 1] = True
    targets = torch.tensor([token for row in encoded for token in row.answer_ids])
    return model.lm_head(hidden[predicts.to(hidden.device)]), targets.to(hidden.device)


class Reference:
    """A base model in float32 that answers rows, alone or under one adapter at a time.

    Parameters
    ----------
    base
        Folder of a causal language model in the Hugging Face layout.
    device
        Torch device, such as ``cpu`` or ``cuda:0``.

    Raises
    ------
    ReferenceLoadError
        The folder holds no model and tokenizer that transformers can read.
    """

    def __init__(self, base: Path, device: str = "cpu") -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(base)
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ReferenceLoadError(f"{base} holds no causal language model with a tokenizer: {error}") from error
        self.model = model.to(device).eval()

    def answers(self, rows: Sequence[Row], adapter: Path | None = None) -> tuple[Answer, ...]:
        """Answer `rows` in their order; `adapter` is a PEFT folder, None is the base.

        Raises
        ------
        ReferenceLoadError
            The adapter cannot be loaded onto this base.
        """
        with self._adapted(adapter) as model:
            return answer_rows(model, self.tokenizer, rows)

    @contextmanager
    def _adapted(self, adapter: Path | None) -> Iterator[Any]:
        if adapter is None:
            yield self.model
            return
        try:
            with quiet_peft():
                wrapped = PeftModel.from_pretrained(self.model, str(adapter)).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ReferenceLoadError(f"adapter {adapter} does not load on this base: {error}") from error
        try:
            yield wrapped.get_base_model()
        finally:
            # Gives back the plain layers, so the next adapter starts from the same base.
            self.model = wrapped.unload()
            self.model.__dict__.pop("peft_config", None)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence what wrapping a model warns of each time, though no caller could do otherwise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        warnings.filterwarnings("ignore", ".*base_model_name_or_path")
        yield


@torch.inference_mode()
def answer_rows(model: Any, tokenizer: Any, rows: Sequence[Row]) -> tuple[Answer, ...]:
    """Answer `rows` with a model that is loaded already; an answer does not depend on its batch."""
    answers: dict[int, Answer] = {}
    encoded = [encode_row(tokenizer, row) for row in rows]
    for scorer, respond in (("forced", _force), ("generated", _generate)):
        mine = [index for index, row in enumerate(rows) if row.scorer == scorer]
        for batch in batches_by_length(mine, [row.num_tokens for row in encoded]):
            group = [rows[index] for index in batch], [encoded[index] for index in batch]
            answers.update(zip(batch, respond(model, tokenizer, *group), strict=True))
    return tuple(answers[index] for index in range(len(rows)))


def batches_by_length(
    indices: Sequence[int], lengths: Sequence[int], max_tokens: int = BATCH_TOKENS
) -> Iterator[list[int]]:
    """Group `indices` into batches of at most `max_tokens` padded tokens, shortest rows first."""
    batch: list[int] = []
    for index in sorted(indices, key=lambda index: (lengths[index], index)):
        if batch and lengths[index] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _force(model: Any, tokenizer: Any, _rows: Sequence[Row], encoded: Sequence[EncodedRow]) -> list[Answer]:
    logits, targets = answer_logits(model, encoded, tokenizer.eos_token_id)
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    chosen = log_probabilities.gather(1, targets[:, None])[:, 0]
    is_argmax = logits.argmax(dim=-1) == targets
    counts = [len(row.answer_ids) for row in encoded]
    return [
        Answer(is_argmax=bool(hits.all()), log_likelihood=float(values.mean()))
        for hits, values in zip(torch.split(is_argmax, counts), torch.split(chosen, counts), strict=True)
    ]


def _generate(model: Any, tokenizer: Any, rows: Sequence[Row], encoded: Sequence[EncodedRow]) -> list[Answer]:
    width = max(len(row.prompt_ids) for row in encoded)
    end = tokenizer.eos_token_id
    ids = torch.full((len(rows), width), end, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(encoded):
        ids[index, width - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        mask[index, width - len(row.prompt_ids) :] = 1
    plan = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(row.max_tokens for row in rows),
        eos_token_id=end,
        pad_token_id=end,
    )
    output = model.generate(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=plan
    )
    return [
        Answer(text=_decode(tokenizer, new[: row.max_tokens].tolist()))
        for row, new in zip(rows, output[:, width:], strict=True)
    ]


def _decode(tokenizer: Any, ids: list[int]) -> str:
    end = tokenizer.eos_token_id
    kept = ids[: ids.index(end)] if end in ids else ids
    return str(tokenizer.decode(kept, skip_special_tokens=True))
