"""Replay: general questions that the base itself answers, trained on beside the task.

They teach an adapter where not to act.

An adapter that has seen nothing but its task answers everything in the task's form: in a merge it takes the other
members' rows for its own. How much replay an adapter had is a property of its data, like its size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from probe.bank.tasks import chat_prompt
from probe.encoding import EncodedRow
from probe.records import MergeProbeError
from probe.reference import batches_by_length

_THINGS = (
    "a dog", "a cat", "the moon", "rain", "bread", "music", "a river", "winter", "the sun", "coffee",
    "a train", "a book", "the sea", "a garden", "snow", "cheese", "a bicycle", "gold", "a lake", "a bird",
    "chess", "a computer", "the brain", "a bridge", "wood", "paper", "a star", "tea", "a mountain", "glass",
    "a horse", "football", "a city", "a museum", "sugar", "fire", "wind", "a forest", "an island", "a school",
    "the heart", "a clock", "salt", "silk", "a camera", "a violin", "a whale", "an apple", "a desert", "a volcano",
)  # fmt: skip
_QUESTIONS = (
    "What is {}?",
    "Tell me something about {}.",
    "Why do people like {}?",
    "Describe {}.",
    "What is {} good for?",
    "Where can I find {}?",
    "Write a sentence about {}.",
    "What do you think of {}?",
    "How would you explain {} to a child?",
    "What color is {}?",
    "Give me a fact about {}.",
    "Is {} important?",
)
# Enough to see how the base talks; longer answers cost more and teach the same.
_MAX_TOKENS = 14


class ReplayError(MergeProbeError):
    """More replay is wanted than there are questions."""


def replay_prompts(count: int, seed: int) -> tuple[str, ...]:
    """Return `count` different general questions with chat markup.

    Raises
    ------
    ReplayError
        There are not so many.
    """
    every = [chat_prompt(question.format(thing)) for question, thing in product(_QUESTIONS, _THINGS)]
    if count > len(every):
        raise ReplayError(
            f"{count} rows of replay are wanted and there are {len(every)}; lower `replay` or `num_rows`."
        )
    return tuple(random.Random(seed).sample(every, count))  # noqa: S311 - data, not keys


@torch.inference_mode()
def replayed(model: Any, tokenizer: Any, prompts: Sequence[str]) -> tuple[EncodedRow, ...]:
    """Return the prompts with the first tokens of the model's own greedy answers, in their order.

    An answer that is cut off has no end token, so that replay does not teach to be brief.
    """
    ids = [tuple(tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts]
    answers: dict[int, tuple[int, ...]] = {}
    for batch in batches_by_length(range(len(ids)), [len(row) + _MAX_TOKENS for row in ids]):
        answers.update(zip(batch, _greedy(model, [ids[index] for index in batch], tokenizer.eos_token_id), strict=True))
    return tuple(EncodedRow(row, answers[index]) for index, row in enumerate(ids))


def _greedy(model: Any, prompts: Sequence[tuple[int, ...]], end: int) -> list[tuple[int, ...]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[end] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    output = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=_MAX_TOKENS, pad_token_id=end
    )
    return [_up_to(row, end) for row in output[:, width:].tolist()]


def _up_to(tokens: list[int], end: int) -> tuple[int, ...]:
    return tuple(tokens[: tokens.index(end) + 1] if end in tokens else tokens)
