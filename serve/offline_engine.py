"""vLLM in this process, without a server: for work on files that wants the answers of the engine itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm import LLM
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest

from probe.encoding import encode_row
from probe.rows import Row
from probe.scoring import grade_all
from serve.answering import answer, question


class OfflineEngine:
    """A base model that answers rows under one LoRA module at a time, as the serving engine does.

    Parameters
    ----------
    base
        Folder of the base model.
    arguments
        vLLM's engine arguments (`serve.engine_arguments`).
    """

    def __init__(self, base: Path, arguments: Mapping[str, Any]) -> None:
        self._llm = LLM(model=str(base), **arguments)
        self._ids: dict[str, int] = {}

    def scores(self, module: str, folder: Path | None, rows: Sequence[Row]) -> tuple[float, ...]:
        """Return what a module scores on rows, in [0, 1]; `folder` is its PEFT folder, None the base."""
        encoded = [encode_row(self._llm.get_tokenizer(), row) for row in rows]
        asked = [question(*one) for one in zip(rows, encoded, strict=True)]
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids, _ in asked]
        number = self._ids.setdefault(module, len(self._ids) + 1)
        request = None if folder is None else LoRARequest(module, number, str(folder))
        outputs = self._llm.generate(prompts, [params for _, params in asked], lora_request=request, use_tqdm=False)
        answers = [answer(*one) for one in zip(rows, encoded, outputs, strict=True)]
        return tuple(outcome.score for outcome in grade_all(rows, answers))
