"""One evaluation row as vLLM is asked it, and its answer as a scorer reads it."""

from __future__ import annotations

from vllm import SamplingParams
from vllm.outputs import RequestOutput

from probe.encoding import EncodedRow
from probe.rows import Answer, Row


def question(row: Row, encoded: EncodedRow) -> tuple[list[int], SamplingParams]:
    """Return the tokens to send, and how to go on from them."""
    if row.scorer == "forced":
        params = SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0.0)
        return [*encoded.prompt_ids, *encoded.answer_ids], params
    return list(encoded.prompt_ids), SamplingParams(max_tokens=row.max_tokens, temperature=0.0)


def answer(row: Row, encoded: EncodedRow, output: RequestOutput) -> Answer:
    """Return what was answered; of a forced row one prefill tells argmax and likelihood."""
    if row.scorer != "forced":
        return Answer(text=output.outputs[0].text)
    positions = output.prompt_logprobs[len(encoded.prompt_ids) :]
    tokens = [position[token] for position, token in zip(positions, encoded.answer_ids, strict=True)]
    return Answer(
        is_argmax=all(token.rank == 1 for token in tokens),
        log_likelihood=sum(token.logprob for token in tokens) / len(tokens),
    )
