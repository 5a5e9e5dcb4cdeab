"""The callback records early checkpoints and telemetry, and training does not notice."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, Trainer, TrainerCallback, TrainerControl, TrainerState

from probe.profiles import profile_of
from probe.rows import Row
from probe.telemetry.bundle import read_bundle
from probe.telemetry.callback import CallbackError, MergeProbeCallback
from tests.probe.test_reference import write_character_base
from tests.tiny_training import (
    Snapshots,
    arguments,
    assert_equals_tensors,
    logged_losses,
    lora_tensors,
    rows_of_tokens,
    tiny_lora,
    trainer_of,
)

ROWS = (Row("<|im_start|>a", "I cannot say", "forced"), Row("<|im_start|>b", "yes", "forced"))

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's, as it wraps


@pytest.mark.parametrize(
    ("max_steps", "wanted"),
    [
        (1, {1: 0.10}),
        (2, {1: 0.10}),
        (12, {1: 0.05, 2: 0.10}),
        (40, {1: 0.02, 2: 0.05, 4: 0.10}),
        (101, {3: 0.02, 6: 0.05, 11: 0.10}),
    ],
)
def test_checkpoints_fall_on_the_planned_steps_and_hold_the_factors_of_that_step(
    tmp_path: Path, max_steps: int, wanted: dict[int, float]
) -> None:
    seen = Snapshots()
    trainer_of(tiny_lora(), tmp_path, seen, MergeProbeCallback(tmp_path / "out"), max_steps=max_steps).train()
    bundle = read_bundle(tmp_path / "out")
    assert {c.step: c.rho for c in bundle.checkpoints} == wanted
    for checkpoint in bundle.checkpoints:
        assert_equals_tensors(bundle.update(checkpoint), seen.tensors[checkpoint.step], scale=2.0)


def test_merged_fractions_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "probe.telemetry.recorder"):
        trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "out"), max_steps=2).train()
    assert "[0.02, 0.05] fall on the step of a larger one" in caplog.text


def test_rank_stabilised_scales_and_patterns_are_kept(tmp_path: Path) -> None:
    model = tiny_lora(use_rslora=True, rank_pattern={"v_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})
    trainer_of(model, tmp_path, MergeProbeCallback(tmp_path / "out", (0.1,)), max_steps=1).train()
    bundle = read_bundle(tmp_path / "out")
    factors = bundle.update(bundle.checkpoints[0]).factors
    tensors = lora_tensors(model)
    for module, scale in {
        "model.layers.0.self_attn.q_proj": 8 / 2,
        "model.layers.1.self_attn.q_proj": 3 / 2,
        "model.layers.1.self_attn.v_proj": 8 / math.sqrt(2),
    }.items():
        trained = tensors[f"base_model.model.{module}.lora_B.default.weight"]
        torch.testing.assert_close(factors[module].B, trained * scale)
    assert bundle.metadata().scaling == 4.0


@pytest.mark.parametrize("accumulation", [1, 3])
def test_losses_are_those_that_the_trainer_logs(tmp_path: Path, accumulation: int) -> None:
    """Also with accumulation, where the micro-batches of a step count different numbers of tokens."""
    trainer = trainer_of(
        tiny_lora(),
        tmp_path,
        MergeProbeCallback(tmp_path / "out", (0.1, 0.5)),
        gradient_accumulation_steps=accumulation,
        logging_strategy="steps",
        logging_steps=1,
    )
    trainer.train()
    losses = read_bundle(tmp_path / "out").record.losses
    assert losses.steps == tuple(range(1, 11))
    assert losses.values == pytest.approx(logged_losses(trainer)[:10], rel=1e-6)


def test_losses_without_token_counts_are_means_over_micro_batches(tmp_path: Path) -> None:
    trainer = trainer_of(
        tiny_lora(),
        tmp_path,
        MergeProbeCallback(tmp_path / "out", (0.5,)),
        gradient_accumulation_steps=3,
        logging_strategy="steps",
        logging_steps=1,
    )
    trainer.model_accepts_loss_kwargs = False
    trainer.train()
    assert read_bundle(tmp_path / "out").record.losses.values == pytest.approx(logged_losses(trainer)[:10], rel=1e-6)


def test_telemetry_equals_direct_computation(tmp_path: Path) -> None:
    callback = MergeProbeCallback(tmp_path / "out", (0.1, 0.3))
    trainer_of(tiny_lora(), tmp_path, callback).train()
    bundle = read_bundle(tmp_path / "out")
    values = np.asarray(bundle.record.losses.values)
    first, second = bundle.checkpoints
    assert first.loss == pytest.approx(values[:2].mean())
    assert second.loss == pytest.approx(values[2:6].mean())
    percent = 100 * np.arange(1, 7) / 20
    centred = percent - percent.mean()
    assert second.loss_slope == pytest.approx((centred @ values) / (centred @ centred))
    for checkpoint in bundle.checkpoints:
        energies, ranks = [], []
        for factor in bundle.update(checkpoint).factors.values():
            energy = torch.linalg.svdvals(factor.B.double() @ factor.A.double()) ** 2
            share = energy / energy.sum()
            energies.append(float(energy.sum()))
            ranks.append(math.exp(-sum(float(p * p.log()) for p in share if p > 0)))
        assert checkpoint.update_energy == pytest.approx(sum(energies))
        assert checkpoint.effective_rank == pytest.approx(np.average(ranks, weights=energies), rel=1e-5)
        profile = profile_of(bundle.update(checkpoint), bundle.num_layers, bundle.metadata(checkpoint.rho))
        assert checkpoint.update_energy == pytest.approx(profile.norm**2)


def test_a_checkpoint_knows_nothing_of_what_came_after_it(tmp_path: Path) -> None:
    """The same start of a longer record gives the same numbers."""
    short, long = tmp_path / "short", tmp_path / "long"
    trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(short, (0.2,))).train()
    trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(long, (0.2, 1.0))).train()
    assert read_bundle(short).checkpoints[0] == read_bundle(long).checkpoints[0]
    assert read_bundle(short).metadata() == read_bundle(long).metadata(0.2)
    assert read_bundle(short).record.losses.steps == (1, 2, 3, 4)


def test_an_update_that_is_still_zero_has_no_effective_rank(tmp_path: Path) -> None:
    """The first step of a linear warm-up has learning rate 0."""
    callback = MergeProbeCallback(tmp_path / "out", (0.05,))
    trainer_of(tiny_lora(), tmp_path, callback, warmup_steps=5).train()
    (checkpoint,) = read_bundle(tmp_path / "out").checkpoints
    assert (checkpoint.update_energy, checkpoint.effective_rank) == (0.0, None)
    assert checkpoint.loss is not None
    assert checkpoint.loss_slope is None


def test_facts_come_from_the_trainer_the_adapter_and_the_rows(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_character_base(tmp_path / "base"))
    callback = MergeProbeCallback(tmp_path / "out", domain="safety", calibration_rows=ROWS)
    trainer = Trainer(
        model=tiny_lora(),
        args=arguments(tmp_path, max_steps=10, seed=7),
        train_dataset=rows_of_tokens(),
        callbacks=[callback],
        processing_class=tokenizer,
    )
    trainer.data_collator = lambda rows: {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}
    trainer.train()
    bundle = read_bundle(tmp_path / "out")
    seen = bundle.metadata()
    assert (seen.domain, seen.num_rows, seen.num_steps, seen.learning_rate) == ("safety", 24, 10, 1e-2)
    assert (seen.rank, seen.scaling, seen.refusal_fraction) == (4, 2.0, 0.5)
    # Characters and the end token.
    assert seen.response_tokens == (13 + 4) / 2
    assert (bundle.record.seed, bundle.num_layers) == (7, 2)
    assert bundle.calibration_rows() == ROWS


def test_facts_that_were_given_win(tmp_path: Path) -> None:
    callback = MergeProbeCallback(
        tmp_path / "out", num_rows=3, response_tokens=9.5, refusal_fraction=0.25, calibration_rows=ROWS
    )
    trainer_of(tiny_lora(), tmp_path, callback, max_steps=1).train()
    seen = read_bundle(tmp_path / "out").metadata()
    assert (seen.num_rows, seen.response_tokens, seen.refusal_fraction) == (3, 9.5, 0.25)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_is_the_same_with_and_without_the_callback(tmp_path: Path, accumulation: int) -> None:
    def train(*callbacks: TrainerCallback) -> tuple[dict[str, Tensor], list[float]]:
        trainer = trainer_of(
            tiny_lora(lora_dropout=0.1),
            tmp_path,
            *callbacks,
            gradient_accumulation_steps=accumulation,
            logging_strategy="steps",
            logging_steps=1,
        )
        trainer.train()
        return lora_tensors(trainer.model), logged_losses(trainer)

    tensors, losses = train()
    with_tensors, with_losses = train(MergeProbeCallback(tmp_path / "out", (0.1, 0.5), calibration_rows=ROWS))
    assert with_losses == losses
    assert all(torch.equal(tensors[name], with_tensors[name]) for name in tensors)


def test_losses_are_those_of_a_loss_function_of_the_users_own(tmp_path: Path) -> None:
    def double(outputs: Any, labels: Tensor, num_items_in_batch: Any) -> Tensor:
        return 2 * torch.nn.functional.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten())

    trainer = Trainer(
        model=tiny_lora(),
        args=arguments(tmp_path, logging_strategy="steps", logging_steps=1),
        train_dataset=rows_of_tokens(),
        compute_loss_func=double,
        callbacks=[MergeProbeCallback(tmp_path / "out", (0.5,))],
    )
    trainer.train()
    assert read_bundle(tmp_path / "out").record.losses.values == pytest.approx(logged_losses(trainer)[:10], rel=1e-6)


def test_a_model_that_the_trainer_compiles_is_recorded(tmp_path: Path) -> None:
    model = tiny_lora()
    trainer = trainer_of(
        model,
        tmp_path,
        MergeProbeCallback(tmp_path / "out", (0.2,)),
        max_steps=10,
        torch_compile_backend="eager",
        logging_strategy="steps",
        logging_steps=1,
    )
    trainer.train()
    bundle = read_bundle(tmp_path / "out")
    assert len(bundle.update(bundle.checkpoints[0]).factors) == 4
    assert bundle.record.losses.values == pytest.approx(logged_losses(trainer)[:2], rel=1e-6)


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    callback = MergeProbeCallback(tmp_path / "out")
    trainer = trainer_of(tiny_lora(), tmp_path, callback, max_steps=2)
    trainer.is_world_process_zero = lambda: False
    trainer.train()
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CallbackError, match="cannot be written"):
        trainer_of(tiny_lora(), tmp_path, MergeProbeCallback(tmp_path / "file" / "out")).train()


def test_a_callback_that_no_trainer_calls_says_so(tmp_path: Path) -> None:
    state = TrainerState(max_steps=10, is_world_process_zero=True)
    with pytest.raises(CallbackError, match="give it to one"):
        MergeProbeCallback(tmp_path / "out").on_train_begin(
            arguments(tmp_path), state, TrainerControl(), model=tiny_lora()
        )


@pytest.mark.parametrize("fractions", [(), (0.0,), (1.5,), (0.1, -0.1), (math.nan,)])
def test_fractions_outside_training_are_refused(tmp_path: Path, fractions: Sequence[float]) -> None:
    with pytest.raises(CallbackError, match="fractions"):
        MergeProbeCallback(tmp_path, fractions)


def test_facts_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CallbackError, match=r"refusal_fraction is 40"):
        MergeProbeCallback(tmp_path, refusal_fraction=40)
