"""Rows as token ids: one place, so that training, reference and engine see the very same tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from probe.rows import Row


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of a row; `answer_ids` ends with the end token."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Length of prompt and answer together."""
        return len(self.prompt_ids) + len(self.answer_ids)


def encode_row(tokenizer: Any, row: Row) -> EncodedRow:
    """Tokenise prompt and answer apart, which is where a decoding engine puts the boundary too."""
    prompt_ids = tokenizer.encode(row.prompt, add_special_tokens=False)
    answer_ids = tokenizer.encode(row.answer, add_special_tokens=False)
    return EncodedRow(tuple(prompt_ids), (*answer_ids, tokenizer.eos_token_id))
