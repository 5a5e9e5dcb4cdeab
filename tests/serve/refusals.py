"""Registrations that a bank must refuse, for any base: each case copies a good adapter and breaks one thing.

Run in-process by `test_refusals.py`, and against the live server by the e2e tests.
"""

# ruff: noqa: N806 - B and A are what every LoRA paper calls these matrices

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from probe.rows import Row, write_rows

NAME = "refused"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OVER_TWO_GIB = (2 << 30) + 1

Body = dict[str, Any] | bytes
Prepare = Callable[[Path, Path], Body]
"""(an empty folder inside the bank's roots, a good adapter of the bank) -> body of `POST /bank/adapters`."""
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Refusal:
    id: str
    prepare: Prepare
    status: int
    param: str | None
    code: str


def post(body: Body) -> dict[str, Any]:
    """Return what an HTTP client's `request` needs to send a case's body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {"content": content, "headers": {"Content-Type": "application/json"}}


# Ways to break something


def copied(folder: Path, good: Path) -> dict[str, Any]:
    """Copy the good adapter, and return the body that would register the copy."""
    (folder / "adapter").mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copy(good / name, folder / "adapter" / name)
    return {"name": NAME, "source": str(folder / "adapter")}


def body(raw: bytes) -> Prepare:
    return lambda folder, good: raw


def fields(**changed: Any) -> Prepare:
    return lambda folder, good: copied(folder, good) | changed


def without(field: str) -> Prepare:
    def prepare(folder: Path, good: Path) -> Body:
        kept = copied(folder, good)
        del kept[field]
        return kept

    return prepare


def spoilt(spoil: Callable[[Path], object]) -> Prepare:
    """Change the files of the copy."""

    def prepare(folder: Path, good: Path) -> Body:
        kept = copied(folder, good)
        spoil(folder / "adapter")
        return kept

    return prepare


def config(**changed: Any) -> Prepare:
    def spoil(adapter: Path) -> None:
        (adapter / CONFIG).write_text(json.dumps(json.loads((adapter / CONFIG).read_text()) | changed))

    return spoilt(spoil)


def tensors(change: Callable[[Tensors], Tensors], **changed: Any) -> Prepare:
    def spoil(adapter: Path) -> None:
        save_file(change(load_file(adapter / WEIGHTS)), adapter / WEIGHTS)
        (adapter / CONFIG).write_text(json.dumps(json.loads((adapter / CONFIG).read_text()) | changed))

    return spoilt(spoil)


def row_file(field: str, write: Callable[[Path], object]) -> Prepare:
    def prepare(folder: Path, good: Path) -> Body:
        path = folder / "rows.jsonl"
        kept = copied(folder, good)
        write(path)
        return kept | {field: str(path)}

    return prepare


def rows(number: int) -> Callable[[Path], object]:
    return lambda path: write_rows(path, [Row(f"question {n}", f"answer {n}", "forced") for n in range(number)])


def lines(*objects: object) -> Callable[[Path], object]:
    return lambda path: path.write_text("".join(json.dumps(one) + "\n" for one in objects))


def linked_out(folder: Path, good: Path) -> Body:
    (folder / "adapter").symlink_to("/etc")
    return {"name": NAME, "source": str(folder / "adapter")}


def linked_file(adapter: Path) -> None:
    (adapter / CONFIG).unlink()
    (adapter / CONFIG).symlink_to("/etc/passwd")


def traversal(folder: Path, good: Path) -> Body:
    up = "/".join([".."] * 64)
    return copied(folder, good) | {"source": f"{folder}/{up}/etc"}


def absent(folder: Path, good: Path) -> Body:
    return copied(folder, good) | {"source": str(folder / "absent")}


def pickled(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")


def damaged(adapter: Path) -> None:
    content = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(content[: len(content) // 2])


def huge(adapter: Path) -> None:
    with (adapter / WEIGHTS).open("ab") as file:
        file.truncate(OVER_TWO_GIB)  # a hole: it takes no room on the disk


def as_high_as_wide(adapter: Path) -> None:
    """Keep the module that allows the highest rank, and give it that rank: right as such, too much for the engine."""
    held = load_file(adapter / WEIGHTS)
    widths = {key: min(A.shape[1], held[_partner(key)].shape[0]) for key, A in held.items() if "lora_A" in key}
    key = max(sorted(widths), key=lambda one: widths[one])
    A, B, rank = held[key], held[_partner(key)], widths[key]
    kept = {key: _padded(A, rank, A.shape[1]), _partner(key): _padded(B, B.shape[0], rank)}
    save_file(kept, adapter / WEIGHTS)
    told = json.loads((adapter / CONFIG).read_text()) | {"r": rank, "rank_pattern": {}}
    (adapter / CONFIG).write_text(json.dumps(told))


def wider(held: Tensors) -> Tensors:
    key = _first(held, "lora_A")
    return held | {key: _padded(held[key], held[key].shape[0], held[key].shape[1] + 1)}


def not_finite(held: Tensors) -> Tensors:
    key = _first(held, "lora_B")
    return held | {key: torch.full_like(held[key], torch.nan)}


def alone(held: Tensors) -> Tensors:
    del held[_first(held, "lora_B")]
    return held


def elsewhere(held: Tensors) -> Tensors:
    return {key.replace("layers.0.", "layers.999."): tensor for key, tensor in held.items()}


def with_magnitude(held: Tensors) -> Tensors:
    key = _first(held, "lora_A").replace("lora_A.weight", "lora_magnitude_vector")
    return held | {key: torch.ones(1)}


def on_the_vocabulary(held: Tensors) -> Tensors:
    module = "base_model.model.lm_head"
    rank = held[_first(held, "lora_A")].shape[0]
    return held | {f"{module}.lora_A.weight": torch.ones(rank, 32), f"{module}.lora_B.weight": torch.ones(64, rank)}


def _first(held: Tensors, side: str) -> str:
    return next(key for key in sorted(held) if side in key)


def _partner(key: str) -> str:
    return key.replace("lora_A", "lora_B")


def _padded(tensor: torch.Tensor, num_rows: int, num_columns: int) -> torch.Tensor:
    padded = torch.zeros(num_rows, num_columns, dtype=tensor.dtype)
    padded[: tensor.shape[0], : tensor.shape[1]] = tensor
    return padded


def malformed(name: str, prepare: Prepare, param: str | None) -> Refusal:
    return Refusal(name, prepare, 400, param, "malformed")


def forbidden(name: str, prepare: Prepare, param: str = "source") -> Refusal:
    return Refusal(name, prepare, 400, param, "forbidden_source")


def incompatible(name: str, prepare: Prepare, param: str = "tensors") -> Refusal:
    return Refusal(name, prepare, 422, param, "incompatible")


def too_large(name: str, prepare: Prepare, param: str) -> Refusal:
    return Refusal(name, prepare, 413, param, "too_large")


GENERATED = {"prompt": "p", "answer": "a", "scorer": "generated"}
CASES: tuple[Refusal, ...] = (
    malformed("body is empty", body(b""), None),
    malformed("body is no JSON", body(b"{not json"), None),
    malformed("body is a list", body(b"[]"), None),
    malformed("no name", without("name"), "name"),
    malformed("no source", without("source"), "source"),
    malformed("unknown field", fields(colour="red"), "colour"),
    malformed("name of another type", fields(name=5), "name"),
    malformed("protected of another type", fields(protected="yes"), "protected"),
    malformed("empty name", fields(name=""), "name"),
    malformed("name that is a path", fields(name="../../etc/passwd"), "name"),
    malformed("name with a line feed", fields(name="a\nb"), "name"),
    malformed("name that is too long", fields(name="x" * 64), "name"),
    malformed("name that means the base", fields(name="base"), "name"),
    malformed("name like a module", fields(name="merged-0123456789abcdef"), "name"),
    malformed("domain with a line feed", fields(domain="a\nb"), "domain"),
    malformed("missing folder", absent, "source"),
    malformed("empty folder", spoilt(lambda adapter: [file.unlink() for file in adapter.iterdir()]), "source"),
    forbidden("source outside the roots", fields(source="/etc")),
    forbidden("source that climbs out of the roots", traversal),
    forbidden("folder linked out of the roots", linked_out),
    forbidden("file linked out of the roots", spoilt(linked_file)),
    forbidden("http source", fields(source="http://169.254.169.254/latest/meta-data")),
    forbidden("unknown scheme", fields(source="ftp://example.org/adapter")),
    forbidden("evaluation outside the roots", fields(evaluation="/etc/passwd"), "evaluation"),
    incompatible("pickled weights", spoilt(pickled)),
    incompatible("no weights", spoilt(lambda adapter: (adapter / WEIGHTS).unlink())),
    incompatible("damaged weights", spoilt(damaged)),
    incompatible("no config", spoilt(lambda adapter: (adapter / CONFIG).unlink()), CONFIG),
    incompatible("config is no JSON", spoilt(lambda adapter: (adapter / CONFIG).write_text("{")), CONFIG),
    incompatible("DoRA", config(use_dora=True), "adapter_config.use_dora"),
    incompatible("trained biases", config(bias="all"), "adapter_config.bias"),
    incompatible("modules to save", config(modules_to_save=["lm_head"]), "adapter_config.modules_to_save"),
    incompatible("another PEFT method", config(peft_type="IA3"), "adapter_config.peft_type"),
    incompatible(
        "another base",
        config(base_model_name_or_path="nobody/another-base-70B"),
        "adapter_config.base_model_name_or_path",
    ),
    incompatible("rank 0", config(r=0), "adapter_config.r"),
    incompatible("rank as text", config(r="8"), "adapter_config.r"),
    incompatible("rank above the engine's", spoilt(as_high_as_wide), "adapter_config.r"),
    incompatible("rank unlike the tensors'", config(r=513, rank_pattern={})),
    incompatible("no tensor", tensors(lambda held: {})),
    incompatible("module that the base lacks", tensors(elsewhere)),
    incompatible("vocabulary matrix", tensors(on_the_vocabulary)),
    incompatible("another width", tensors(wider)),
    incompatible("NaN", tensors(not_finite)),
    incompatible("A without B", tensors(alone)),
    incompatible("tensor of another method", tensors(with_magnitude)),
    too_large("more bytes than allowed", spoilt(huge), "source"),
    too_large("more calibration rows than allowed", row_file("calibration", rows(257)), "calibration"),
    too_large("more evaluation rows than allowed", row_file("evaluation", rows(2001)), "evaluation"),
    malformed("missing evaluation file", row_file("evaluation", lambda path: None), "evaluation"),
    malformed("no calibration row", row_file("calibration", rows(0)), "calibration"),
    malformed("a single evaluation row", row_file("evaluation", rows(1)), "evaluation"),
    malformed("row that is no JSON", row_file("evaluation", lambda path: path.write_text("hello\n")), "evaluation"),
    malformed(
        "row without an answer", row_file("evaluation", lines({"prompt": "p", "scorer": "forced"})), "evaluation"
    ),
    malformed(
        "unknown check",
        row_file("evaluation", lines(*[GENERATED | {"check": {"kind": "horoscope"}}] * 2)),
        "evaluation",
    ),
    malformed(
        "check without its arguments",
        row_file("evaluation", lines(*[GENERATED | {"check": {"kind": "refusal"}}] * 2)),
        "evaluation",
    ),
    malformed(
        "check with an argument of another type",
        row_file("evaluation", lines(*[GENERATED | {"check": {"kind": "constraints", "max_words": "many"}}] * 2)),
        "evaluation",
    ),
    Refusal("stale revision", fields(expected_revision="0" * 64), 409, None, "stale_revision"),
)
