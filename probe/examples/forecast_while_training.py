"""Forecast an adapter while it trains: ``python -m probe.examples.forecast_while_training OUT --predictor FOLDER``.

A tiny model is made on the spot, three adapters of it become a bank, and a fourth one trains beside it. At 2, 5 and 10
percent of its training it is forecast what it would keep beside each of the bank, in sentences here and in figures
through the Trainer's own logger, so that a run with no future in the bank can be changed or stopped early. The model is
random and the predictor was fitted on other ones: this shows how it is done, and nothing about merging.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

from probe.adapter_io import read_adapter
from probe.forecasting import sentences
from probe.forecasting.advice import advice, settings_of, shipped_effects
from probe.forecasting.early_forecast import figures
from probe.forecasting.forecaster import Forecaster
from probe.forecasting.seen_adapter import read_candidate, read_known_bank
from probe.predictors.predictor import Predictor, default_predictor
from probe.profile_store import ProfileStore
from probe.profiling import Profiler
from probe.records import MergeProbeError
from probe.reference import quiet_peft
from probe.telemetry.callback import MergeProbeCallback
from probe.telemetry.trained_lora import trained_lora

BASE_NAME = "tiny-llama"
VOCABULARY = 24
TASKS: dict[str, Callable[[list[int]], list[int]]] = {
    "copy": lambda tokens: tokens,
    "reverse": lambda tokens: tokens[::-1],
    "successor": lambda tokens: [(token + 1) % VOCABULARY for token in tokens],
    "sort": sorted,
}
"""What is learnt: some tokens -> the tokens that follow them."""
BANK_STEPS = 20
NUM_STEPS = 100


def main(arguments: list[str] | None = None) -> int:
    """Build the bank, train beside it, and print what is forecast."""
    parser = argparse.ArgumentParser(prog="python -m probe.examples.forecast_while_training", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the bank, the bundle and profiles")
    parser.add_argument("--predictor", type=Path, help="folder of a fitted predictor (default: the shipped one)")
    options = parser.parse_args(arguments)
    try:
        predictor = Predictor.load(options.predictor) if options.predictor else default_predictor()
    except MergeProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for task in ("copy", "reverse", "successor"):
        save(train(task, options.out, BANK_STEPS), options.out / "bank" / task)
    trainer = train("sort", options.out, NUM_STEPS, telling_callback(options.out, predictor))
    logged = [entry for entry in trainer.state.log_history if "mergeprobe/predicted_gain" in entry]
    sys.stdout.write(f"The Trainer's log has {len(logged)} forecasts, at steps {[one['step'] for one in logged]}.\n")
    return 0


def telling_callback(out: Path, predictor: Predictor) -> MergeProbeCallback:
    """Return a callback that records early checkpoints, forecasts each, says so, and logs the figures."""
    # No rows and no base: weights alone. Of a trained tokenizer and its base the profiler could tell more.
    forecaster = Forecaster(read_known_bank(out / "bank"), predictor, Profiler(ProfileStore(out / "profiles"), Path))
    effects = shipped_effects()

    def forecast(bundle: Path) -> dict[str, float]:
        candidate = read_candidate(bundle)
        found = forecaster.forecast(candidate)
        modules = read_adapter(candidate.now.folder).factors
        changes = advice(effects, settings_of(candidate.now.metadata, modules))
        told = [sentences.of_partner(found, partner) for partner in found.partners]
        told += [*map(sentences.of_advice, changes), sentences.of_gain(found), sentences.of_knowledge(found)]
        sys.stdout.writelines([f"\nAt {found.rho:.0%} of training:\n", *(f"- {one}\n" for one in told)])
        return figures(found)

    return MergeProbeCallback(out / "bundle", domain="sorting", forecast=forecast)


def train(task: str, out: Path, num_steps: int, *callbacks: MergeProbeCallback) -> Trainer:
    """Train an adapter on a task."""
    arguments = TrainingArguments(
        output_dir=str(out / "trainer"),
        max_steps=num_steps,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        save_strategy="no",
        report_to="none",  # or your logger: the figures reach every one that the Trainer knows
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=adapted_model(task), args=arguments, train_dataset=rows(task), callbacks=list(callbacks))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def adapted_model(task: str) -> Any:
    """Return the tiny base, the same every time, with a fresh adapter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    base = LlamaForCausalLM(config)
    base.config.name_or_path = BASE_NAME
    torch.manual_seed(sum(map(ord, task)))
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with quiet_peft():
        return get_peft_model(base, lora)


def rows(task: str, count: int = 64) -> list[dict[str, list[int]]]:
    """Return training rows: five random tokens, and what follows them."""
    drawn = torch.randint(0, VOCABULARY, (count, 5), generator=torch.Generator().manual_seed(1)).tolist()
    return [
        {"input_ids": given + TASKS[task](given), "labels": [-100] * len(given) + TASKS[task](given)} for given in drawn
    ]


def save(trainer: Trainer, folder: Path) -> None:
    """Write a trained adapter as PEFT does."""
    folder.mkdir(parents=True, exist_ok=True)
    trained_lora(trainer.model).save(folder)


if __name__ == "__main__":
    sys.exit(main())
