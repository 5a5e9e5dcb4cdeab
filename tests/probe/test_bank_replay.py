"""Replay: the base's own words, trained on beside the task."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import set_peft_model_state_dict

from probe.bank.tasks import task_of
from probe.bank.training import MethodInputs, Training, train_adapter
from probe.bank.training.objectives import log_probabilities
from probe.bank.training.replay import ReplayError, replay_prompts, replayed
from probe.bank.training.wrapping import wrapped_base
from probe.reference import Reference
from tests.probe.test_reference import write_character_base

TRAINING = Training(2, "attention", 5e-2, 4, num_rows=8, num_epochs=4, batch_rows=4)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(write_character_base(tmp_path_factory.mktemp("base")))


def test_prompts_differ_and_come_from_the_seed() -> None:
    prompts = replay_prompts(40, seed=1)
    assert len(set(prompts)) == 40
    assert prompts == replay_prompts(40, seed=1) != replay_prompts(40, seed=2)


def test_more_replay_than_there_are_questions_is_refused() -> None:
    with pytest.raises(ReplayError, match="601 rows of replay are wanted and there are 600"):
        replay_prompts(601, seed=1)


def test_an_answer_is_what_the_base_says_however_rows_are_batched(reference: Reference) -> None:
    prompts = replay_prompts(5, seed=1)
    together = replayed(reference.model, reference.tokenizer, prompts)
    alone = [replayed(reference.model, reference.tokenizer, [prompt])[0] for prompt in prompts]
    assert list(together) == alone
    for row in together:
        logits = reference.model(input_ids=torch.tensor([row.prompt_ids])).logits
        assert int(logits[0, -1].argmax()) == row.answer_ids[0]


def test_replay_keeps_the_base_where_the_task_is_not(reference: Reference) -> None:
    rows = task_of("math").generate("things", "train", 8, 0)
    prompts = replay_prompts(16, seed=3)
    held = replayed(reference.model, reference.tokenizer, prompts[8:])

    def kept(share: float) -> float:
        """Return the likelihood that a trained adapter leaves to what the base would say."""
        inputs = MethodInputs(replay=prompts[: round(8 * share)])
        training = replace(TRAINING, replay=share)
        model, tokenizer = reference.model, reference.tokenizer
        trained = train_adapter(model, tokenizer, rows, training, data_seed=0, a_seed=1, inputs=inputs)
        assert trained.num_steps == 4 * (8 + round(8 * share)) // 4
        with wrapped_base(model, training) as wrapped, torch.inference_mode():
            set_peft_model_state_dict(wrapped, {name: tensor.float() for name, tensor in trained.tensors.items()})
            return float(log_probabilities(wrapped.get_base_model(), held, tokenizer.eos_token_id).mean())

    assert kept(1.0) > kept(0.0)
