"""Ask many modules the same rows without loading the base model again.

A merged update is added into the weights in place and taken away by putting the old weights back, bit for bit: a
prefill then costs what the base alone costs. Every row is forced first: one prefill gives its log-likelihood, and the
greedy answer up to the first token that is not the reference's. So an answer that equals the reference needs no
decoding, and the others go on from there, with the keys and values of the same prefill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from probe.calibration.adapted import linear_of
from probe.encoding import EncodedRow, encode_row
from probe.factors import LoraUpdate
from probe.reference import Reference, answer_logits, batches_by_length
from probe.rows import Answer, Row
from probe.scoring import grade_all

SCORE_DIGITS = 6
LIKELIHOOD_DIGITS = 3
"""Digits after the point that are kept of scores and of log-likelihoods (nats); float32 holds them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a module makes of rows, in their order.

    Attributes
    ----------
    scores
        (n,) in [0, 1], by each row's own scorer.
    log_likelihoods
        (n,) mean natural log-probability of a token of the reference answer, end token included.
    """

    scores: tuple[float, ...]
    log_likelihoods: tuple[float, ...]

    def rounded(self) -> Answered:
        """Leave out digits that rounding would change on another machine, and that would only take room."""
        return Answered(
            tuple(round(score, SCORE_DIGITS) for score in self.scores),
            tuple(round(value, LIKELIHOOD_DIGITS) for value in self.log_likelihoods),
        )

    def __add__(self, more: Answered) -> Answered:
        return Answered(self.scores + more.scores, self.log_likelihoods + more.log_likelihoods)


@dataclass(frozen=True, slots=True)
class _Asked:
    row: Row
    encoded: EncodedRow


@dataclass(frozen=True, slots=True)
class _Forced:
    """A forced row: its log-likelihood, and the greedy answer up to the first token that is not the reference's."""

    log_likelihood: float
    said: tuple[int, ...]
    is_right: bool


class Evaluator:
    """A base model in float32 that answers rows, alone or with an update added to its weights.

    The answers are those of `probe.reference.Reference`, graded by `probe.scoring.grade_all`.
    """

    def __init__(self, reference: Reference) -> None:
        self._model: Any = reference.model
        self._tokenizer: Any = reference.tokenizer

    @contextmanager
    def fused(self, update: LoraUpdate) -> Iterator[None]:
        """Add an update to the weights while the block runs; afterwards every bit is as it was.

        Raises
        ------
        CalibrationError
            The model has no linear module of a name and shape; no weight is changed then.
        """
        weights = {name: linear_of(self._model, name, factor).weight for name, factor in update.factors.items()}
        pristine = {name: weight.detach().clone() for name, weight in weights.items()}
        try:
            with torch.no_grad():
                for name, factor in update.factors.items():
                    weights[name].addmm_(factor.B.to(weights[name]), factor.A.to(weights[name]))
            yield
        finally:
            with torch.no_grad():
                for name, before in pristine.items():
                    weights[name].copy_(before)

    @torch.inference_mode()
    def ask(self, rows: Sequence[Row]) -> Answered:
        """Answer and grade rows with the weights as they are now."""
        encoded = [encode_row(self._tokenizer, row) for row in rows]
        answers: dict[int, Answer] = {}
        for scorer, answer in (("forced", self._force), ("generated", self._generate)):
            mine = [index for index, row in enumerate(rows) if row.scorer == scorer]
            for batch in batches_by_length(mine, [row.num_tokens for row in encoded]):
                answers.update(zip(batch, answer([_Asked(rows[i], encoded[i]) for i in batch]), strict=True))
        in_order = [answers[index] for index in range(len(rows))]
        outcomes = grade_all(rows, in_order)
        likelihoods = [answer.log_likelihood for answer in in_order if answer.log_likelihood is not None]
        return Answered(tuple(outcome.score for outcome in outcomes), tuple(likelihoods))

    def _force(self, asked: Sequence[_Asked]) -> list[Answer]:
        forced = self._forced(asked)
        return [Answer(is_argmax=one.is_right, log_likelihood=one.log_likelihood) for one in forced]

    def _generate(self, asked: Sequence[_Asked]) -> list[Answer]:
        cache = DynamicCache()
        forced = self._forced(asked, cache)
        texts = [
            _Text(len(one.encoded.prompt_ids), list(found.said), one.row.max_tokens)
            for one, found in zip(asked, forced, strict=True)
        ]
        _continue_greedily(self._model, cache, texts, self._tokenizer.eos_token_id)
        return [
            Answer(text=self._text(text.said[: text.max_tokens]), log_likelihood=one.log_likelihood)
            for text, one in zip(texts, forced, strict=True)
        ]

    def _forced(self, asked: Sequence[_Asked], cache: DynamicCache | None = None) -> list[_Forced]:
        rows = [one.encoded for one in asked]
        logits, targets = answer_logits(self._model, rows, self._tokenizer.eos_token_id, cache)
        likely = (logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)).float()
        counts = [len(row.answer_ids) for row in rows]
        best, chances = torch.split(logits.argmax(dim=-1), counts), torch.split(likely, counts)
        return list(map(_compared, rows, best, chances))

    def _text(self, tokens: list[int]) -> str:
        end = self._tokenizer.eos_token_id
        kept = tokens[: tokens.index(end)] if end in tokens else tokens
        return str(self._tokenizer.decode(kept, skip_special_tokens=True))


def _compared(row: EncodedRow, best: Tensor, chances: Tensor) -> _Forced:
    said = best.tolist()
    is_right = [one == wanted for one, wanted in zip(said, row.answer_ids, strict=True)]
    num_said = len(said) if all(is_right) else is_right.index(False) + 1
    return _Forced(float(chances.mean()), tuple(said[:num_said]), all(is_right))


@dataclass(slots=True)
class _Text:
    """A greedy answer that grows: the tokens before it, those said so far, and how many it may have."""

    num_before: int
    said: list[int]
    max_tokens: int

    def is_done(self, end: int) -> bool:
        return self.said[-1] == end or len(self.said) >= self.max_tokens


def _continue_greedily(model: Any, cache: DynamicCache, texts: Sequence[_Text], end: int) -> None:
    """Let every text grow until it is done; whoever is done leaves the batch.

    Parameters
    ----------
    cache
        Keys and values of (text, position): of each text all tokens but the last one said, and further ones, which
        are not looked at.
    """
    positions = torch.arange(cache.get_seq_length(), device=model.device)
    known = torch.tensor([text.num_before + len(text.said) - 1 for text in texts], device=model.device)
    mask = (positions < known[:, None]).long()
    going = list(texts)
    while kept := [place for place, text in enumerate(going) if not text.is_done(end)]:
        if len(kept) < len(going):
            chosen = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(chosen)
            mask, going = mask[chosen], [going[place] for place in kept]
        mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
        output = model(
            input_ids=torch.tensor([[text.said[-1]] for text in going], device=model.device),
            attention_mask=mask,
            position_ids=mask.sum(dim=1, keepdim=True) - 1,
            past_key_values=cache,
        )
        for text, token in zip(going, output.logits[:, -1].argmax(dim=-1).tolist(), strict=True):
            text.said.append(token)
