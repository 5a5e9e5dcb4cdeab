"""The reference answers rows alike alone and in a batch, by forcing and by decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from probe.bank.build import write_adapter
from probe.bank.training import Training, train_adapter
from probe.encoding import encode_row
from probe.reference import Reference, ReferenceLoadError, batches_by_length
from probe.rows import Row

EASY = {"kind": "constraints", "min_words": 1}


def write_character_base(folder: Path) -> Path:
    """Write a random 2-layer Llama whose tokens are characters, small enough for any test."""
    characters = [*map(chr, range(32, 127)), "\n"]
    vocabulary = {token: i for i, token in enumerate(["<|im_start|>", "<|im_end|>", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(write_character_base(tmp_path_factory.mktemp("base")))


def forced(question: str, answer: str) -> Row:
    return Row(f"<|im_start|>{question}<|im_end|>", answer, "forced")


def decoded(row: Row, max_tokens: int = 12) -> Row:
    return Row(row.prompt, row.answer, "generated", EASY, max_tokens)


LESSONS = tuple(forced(letter * (2 + i), letter * (1 + i % 3)) for i, letter in enumerate("abcdef"))
UNSEEN = tuple(forced(letter * 3, "no") for letter in "xyz")


@pytest.fixture(scope="module")
def adapter(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that knows some of the lessons, so that both outcomes occur."""
    training = Training(8, "attention+mlp", 3e-2, 16, num_rows=6, num_epochs=60, batch_rows=6)
    trained = train_adapter(reference.model, reference.tokenizer, LESSONS, training, 0, 0)
    return write_adapter(tmp_path_factory.mktemp("adapter"), training, trained)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_forcing_agrees_with_greedy_decoding(reference: Reference, adapter: Path, is_adapted: bool) -> None:
    rows = LESSONS + UNSEEN
    folder = adapter if is_adapted else None
    by_force = [answer.is_argmax for answer in reference.answers(rows, folder)]
    texts = [a.text for a in reference.answers([decoded(row) for row in rows], folder)]
    assert by_force == [text == row.answer for text, row in zip(texts, rows, strict=True)]
    assert any(by_force) is is_adapted
    assert not all(by_force)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_an_answer_does_not_depend_on_its_batch(reference: Reference, adapter: Path, is_adapted: bool) -> None:
    folder = adapter if is_adapted else None
    rows = (*LESSONS, *(decoded(row, 3 + i) for i, row in enumerate(LESSONS)), *UNSEEN)
    together = reference.answers(rows, folder)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = reference.answers([row], folder)
        assert (alone.is_argmax, alone.text) == (answer.is_argmax, answer.text)
        if answer.log_likelihood is not None:
            assert alone.log_likelihood == pytest.approx(answer.log_likelihood, abs=1e-5)


def test_the_log_likelihood_is_the_mean_over_answer_and_end_token(reference: Reference) -> None:
    row = LESSONS[2]
    ids = torch.tensor([reference.tokenizer(row.prompt + row.answer + "<|im_end|>").input_ids])
    with torch.inference_mode():
        log_probabilities = reference.model(ids).logits[0].log_softmax(-1)
    count = len(row.answer) + 1
    wanted = [float(log_probabilities[-1 - k, ids[0, -k]]) for k in range(1, count + 1)]
    (answer,) = reference.answers([row])
    assert answer.log_likelihood == pytest.approx(sum(wanted) / count, abs=1e-5)


def test_the_base_is_untouched_by_an_adapter(reference: Reference, adapter: Path) -> None:
    before = reference.answers(LESSONS)
    adapted = reference.answers(LESSONS, adapter)
    assert adapted != before
    assert reference.answers(LESSONS) == before
    assert reference.answers(LESSONS, adapter) == adapted


def test_generation_stops_at_the_rows_own_limit(reference: Reference) -> None:
    rows = [decoded(LESSONS[0], 2), decoded(LESSONS[0], 9)]
    short, long = (answer.text or "" for answer in reference.answers(rows))
    assert len(short) <= 2
    assert long.startswith(short)


def test_no_rows_get_no_answers(reference: Reference) -> None:
    assert reference.answers([]) == ()


def test_an_encoded_answer_ends_with_the_end_token(reference: Reference) -> None:
    encoded = encode_row(reference.tokenizer, forced("ab", "c"))
    assert encoded.prompt_ids[0] == 0
    assert encoded.answer_ids[-1] == reference.tokenizer.eos_token_id
    assert encoded.num_tokens == len("ab") + 2 + len("c") + 1


def test_batches_hold_every_row_once_and_stay_within_the_limit() -> None:
    lengths = [700, 3, 900, 700, 5000, 1]
    batches = list(batches_by_length(range(6), lengths))
    assert batches == [[5, 1], [0, 3], [2], [4]]


def test_folders_that_hold_no_model_or_adapter_are_named(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(ReferenceLoadError, match=str(tmp_path)):
        Reference(tmp_path)
    with pytest.raises(ReferenceLoadError, match=str(tmp_path)):
        reference.answers(LESSONS, tmp_path)
    assert reference.answers(LESSONS[:1])[0].is_argmax is False
