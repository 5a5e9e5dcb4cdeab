"""A bank of four trained adapters over a model of characters, made in seconds: really learnt, really in conflict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from probe.bank.adapter_folder import BUNDLE_FOLDER, EVALUATION_FILE, RECORD_FILE, write_adapter
from probe.bank.training import BundlePlan, Training, train_adapter
from probe.reference import Reference
from probe.rows import CALIBRATION_FILE, Row, write_rows
from tests.probe.test_reference import write_character_base

SAYS = {"kind": "constraints", "min_words": 1, "max_words": 1}
LETTERS = "abcdefghijkl"
# Every adapter answers the same questions in its own way, so that merging two of them must lose something.
ANSWERS = {
    "double": lambda letter: letter * 2,
    "single": lambda letter: letter,
    "upper": lambda letter: letter.upper(),
    "shout": lambda letter: letter.upper() + "!",
}
DOMAINS = {"double": "repeat", "single": "repeat", "upper": "case", "shout": "safety"}
TRAINING = Training(4, "attention+mlp", 1e-2, 8, num_rows=12, num_epochs=60, batch_rows=12)


def write_base(folder: Path) -> Path:
    """Write the model of characters with an output matrix that is large enough to be sure of something."""
    write_character_base(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    model.save_pretrained(folder)
    return folder


def rows_of(name: str) -> tuple[Row, ...]:
    """Return one forced row a letter; half of the adapters are asked with another mark."""
    mark = "?" if name in ("double", "upper") else "#"
    return tuple(Row(f"<|im_start|>{mark}{letter}<|im_end|>", ANSWERS[name](letter), "forced") for letter in LETTERS)


def decoded(row: Row) -> Row:
    """Return a row that is judged by what is written: the same answer, as its only word."""
    return Row(row.prompt, row.answer, "generated", SAYS | {"contains": row.answer}, 4)


def write_bank(folder: Path, reference: Reference, names: Sequence[str] = tuple(ANSWERS)) -> Path:
    """Train and write the adapters; the first one has no bundle, as the shipped ones have none."""
    for seed, name in enumerate(names):
        place = folder / name
        place.mkdir(parents=True)
        rows = rows_of(name)
        bundle = BundlePlan(place / BUNDLE_FOLDER, DOMAINS[name], rows[:6]) if seed else None
        trained = train_adapter(
            reference.model, reference.tokenizer, rows, TRAINING, data_seed=seed, a_seed=100 + seed, bundle=bundle
        )
        write_adapter(place, TRAINING, trained)
        write_rows(place / EVALUATION_FILE, [decoded(row) if k % 3 == 2 else row for k, row in enumerate(rows)])
        write_rows(place / CALIBRATION_FILE, rows[:6])
        (place / RECORD_FILE).write_text(json.dumps(record_of(name, seed, trained.num_tokens, trained.num_steps)))
    return folder


def record_of(name: str, seed: int, num_tokens: int, num_steps: int) -> dict[str, Any]:
    """Return what a build writes of an adapter, as far as labelling reads it."""
    training = {
        name: getattr(TRAINING, name) for name in ("rank", "modules", "alpha", "learning_rate", "num_rows", "replay")
    }
    return {
        "name": name,
        "domain": DOMAINS[name],
        "mix": name,
        "method": "sft",
        "group": None,
        "protected": DOMAINS[name] == "safety",
        "precision": "float32",
        "identity": {"a_seed": 100 + seed, "data_seed": seed, "recipe": {"training": training}},
        "tokens_trained": num_tokens,
        "steps": num_steps,
        "minutes": 0.1,
        "command": "made by a test",
        "device": "cpu",
        "versions": {"python": "3"},
    }
