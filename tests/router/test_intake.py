from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from probe.adapter_io import revision_of
from probe.base_model import BaseShapes
from probe.rows import Row, write_rows
from router.intake import IntakeError, Limits, Registration, take_in
from router.records import Adapter
from router.store import Store
from tests.tiny import BASE_NAME, SHAPES, write_adapter

BASE = BaseShapes(name=f"org/{BASE_NAME}", aliases=("other-name",), modules=SHAPES)
LIMITS = Limits(max_adapter_bytes=1 << 20, max_rows=4, max_evaluation_rows=6, max_row_file_bytes=4096, max_rank=8)
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Bank:
    """A store, and a folder of sources that it may read, with a good adapter and good rows in it."""

    store: Store
    root: Path
    registration: Registration

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    def take_in(self, registration: Registration, limits: Limits = LIMITS) -> Adapter:
        return take_in(registration, self.store, BASE, limits, (self.root,))

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.store.root)) for path in self.store.root.rglob("*"))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    root = tmp_path / "sources"
    write_adapter(root / "adapter")
    rows(root / "calibration.jsonl", 3)
    rows(root / "evaluation.jsonl", 6)
    registration = Registration(
        name="math",
        source=str(root / "adapter"),
        calibration=str(root / "calibration.jsonl"),
        evaluation=str(root / "evaluation.jsonl"),
    )
    return Bank(Store(tmp_path / "store"), root, registration)


def rows(path: Path, number: int) -> str:
    write_rows(path, [Row(prompt=f"What is {n}?", answer=str(n), scorer="forced") for n in range(number)])
    return str(path)


# What is taken in


def test_an_adapter_is_kept_with_its_rows(bank: Bank) -> None:
    adapter = bank.take_in(replace(bank.registration, domain="maths", protected=True))
    assert adapter.revision == revision_of(bank.adapter)
    assert (adapter.name, adapter.source, adapter.rank) == ("math", str(bank.adapter), 4)
    assert (adapter.domain, adapter.protected, adapter.leaving, adapter.registered_at) == ("maths", True, False, None)
    assert adapter.calibration is not None
    assert adapter.evaluation is not None
    kept = [
        f"adapters/{adapter.revision}/adapter_config.json",
        f"adapters/{adapter.revision}/adapter_model.safetensors",
    ]
    files = sorted([*kept, f"rows/{adapter.calibration}.jsonl", f"rows/{adapter.evaluation}.jsonl"])
    assert [path for path in bank.listing() if (bank.store.root / path).is_file()] == files


def test_taking_in_again_gives_the_same_and_changes_nothing(bank: Bank) -> None:
    first = bank.take_in(bank.registration)
    before = bank.listing()
    assert bank.take_in(bank.registration) == first
    assert bank.listing() == before


def test_rows_are_optional_and_files_beside_the_adapter_stay_behind(bank: Bank) -> None:
    (bank.adapter / "optimizer.pt").write_bytes(b"pickle")
    (bank.adapter / "README.md").write_text("read me")
    adapter = bank.take_in(replace(bank.registration, calibration=None, evaluation=None))
    assert (adapter.calibration, adapter.evaluation) == (None, None)
    assert {path.name for path in bank.store.adapter_path(adapter.revision).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2}},
        {"alpha_pattern": {"q_proj": 3}},
        {"task_type": None},
        {"base_model_name_or_path": "other-name"},
        {"modules_to_save": []},
    ],
)
def test_variants_that_the_engine_serves_are_taken_in(bank: Bank, config: dict[str, Any]) -> None:
    write_adapter(bank.adapter, **config)
    assert bank.take_in(bank.registration).rank == 4


@pytest.mark.parametrize("name", ["a", "Math-2.1_b", "x" * 63, "1"])
def test_good_names_are_taken_in(bank: Bank, name: str) -> None:
    assert bank.take_in(replace(bank.registration, name=name)).name == name


# What is refused. Each case spoils one thing and returns the registration to try.

Spoil = Callable[[Bank], Registration]


def named(name: str) -> Spoil:
    return lambda bank: replace(bank.registration, name=name)


def configured(**config: Any) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        write_adapter(bank.adapter, **config)
        return bank.registration

    return spoil


def config_text(text: str) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        (bank.adapter / "adapter_config.json").write_text(text)
        return bank.registration

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        path = bank.adapter / "adapter_model.safetensors"
        held = load_file(path)
        change(held)
        save_file(held, path)
        return bank.registration

    return spoil


def removed(name: str) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        (bank.adapter / name).unlink()
        return bank.registration

    return spoil


def row_file(field: str, text: str) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        (bank.root / f"{field}.jsonl").write_text(text)
        return bank.registration

    return spoil


def num_rows(field: str, number: int) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        rows(bank.root / f"{field}.jsonl", number)
        return bank.registration

    return spoil


def sourced(field: str, source: str) -> Spoil:
    def spoil(bank: Bank) -> Registration:
        change: dict[str, Any] = {field: source.format(root=bank.root)}
        return replace(bank.registration, **change)

    return spoil


def latin(bank: Bank) -> Registration:
    (bank.root / "calibration.jsonl").write_bytes(b'{"prompt": "\xe4"}\n')
    return bank.registration


def pickled(bank: Bank) -> Registration:
    (bank.adapter / "adapter_model.safetensors").rename(bank.adapter / "adapter_model.bin")
    return bank.registration


def damaged(bank: Bank) -> Registration:
    path = bank.adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    return bank.registration


def large(bank: Bank) -> Registration:
    with (bank.adapter / "adapter_model.safetensors").open("ab") as file:
        file.truncate(LIMITS.max_adapter_bytes + 1)
    return bank.registration


def linked_out(bank: Bank) -> Registration:
    outside = shutil.move(bank.adapter, bank.root.parent / "outside")
    bank.adapter.symlink_to(outside)
    return bank.registration


def linked_file(bank: Bank) -> Registration:
    outside = shutil.move(bank.adapter / "adapter_config.json", bank.root.parent / "secret.json")
    (bank.adapter / "adapter_config.json").symlink_to(outside)
    return bank.registration


def emptied(bank: Bank) -> Registration:
    shutil.rmtree(bank.adapter)
    bank.adapter.mkdir()
    return bank.registration


def incompatible(option: str, value: object) -> tuple[str, Spoil, str, str]:
    return (f"{option}={value}", configured(**{option: value}), "incompatible", f"adapter_config.{option}")


REFUSALS: list[tuple[str, Spoil, str, str]] = [
    ("empty name", named(""), "malformed", "name"),
    ("long name", named("x" * 64), "malformed", "name"),
    ("name with a slash", named("a/b"), "malformed", "name"),
    ("name with dots first", named("../a"), "malformed", "name"),
    ("name with a line feed", named("math\n"), "malformed", "name"),
    ("name with a colon", named("base:math"), "malformed", "name"),
    ("name that is 'base'", named("Base"), "malformed", "name"),
    ("name of the base model", named("Tiny"), "malformed", "name"),
    ("alias of the base model", named("other-name"), "malformed", "name"),
    ("name like a separate module", named("separate-1"), "malformed", "name"),
    ("name like a merged module", named("Merged-1"), "malformed", "name"),
    ("domain with a line feed", sourced("domain", "a\nb"), "malformed", "domain"),
    ("empty domain", sourced("domain", ""), "malformed", "domain"),
    ("http source", sourced("source", "http://host/adapter"), "forbidden_source", "source"),
    ("source outside the roots", sourced("source", "/etc"), "forbidden_source", "source"),
    ("source with dots", sourced("source", "{root}/../../etc"), "forbidden_source", "source"),
    ("source with a NUL", sourced("source", "{root}/a\0b"), "forbidden_source", "source"),
    ("folder linked out of the roots", linked_out, "forbidden_source", "source"),
    ("file linked out of the roots", linked_file, "forbidden_source", "source"),
    ("absent source", sourced("source", "{root}/absent"), "malformed", "source"),
    ("source that is a file", sourced("source", "{root}/calibration.jsonl"), "malformed", "source"),
    ("empty source folder", emptied, "malformed", "source"),
    ("large adapter", large, "too_large", "source"),
    ("pickled weights", pickled, "incompatible", "tensors"),
    ("no weights", removed("adapter_model.safetensors"), "incompatible", "tensors"),
    ("damaged weights", damaged, "incompatible", "tensors"),
    ("no config", removed("adapter_config.json"), "incompatible", "adapter_config.json"),
    ("config is no JSON", config_text("{"), "incompatible", "adapter_config.json"),
    ("config is deep", config_text("[" * 100_000), "incompatible", "adapter_config.json"),
    ("config is a list", config_text("[]"), "incompatible", "adapter_config"),
    incompatible("peft_type", "LOHA"),
    incompatible("peft_type", None),
    incompatible("task_type", "SEQ_CLS"),
    incompatible("base_model_name_or_path", "llama"),
    incompatible("base_model_name_or_path", None),
    incompatible("use_dora", True),
    incompatible("use_qalora", True),
    incompatible("bias", "all"),
    incompatible("lora_bias", True),
    incompatible("modules_to_save", ["lm_head"]),
    incompatible("trainable_token_indices", [1]),
    incompatible("target_parameters", ["experts"]),
    incompatible("layer_replication", [[0, 1]]),
    incompatible("init_lora_weights", "pissa"),
    incompatible("r", 0),
    incompatible("r", "4"),
    incompatible("lora_alpha", -1),
    ("high rank", configured(rank=9), "incompatible", "adapter_config.r"),
    ("high rank by pattern", configured(rank_pattern={"v_proj": 9}), "incompatible", "adapter_config.r"),
    ("another rank than declared", configured(r=2), "incompatible", "tensors"),
    ("no tensor", tensors(dict.clear), "incompatible", "tensors"),
    ("A without B", tensors(lambda held: held.pop(f"{Q_PROJ}.lora_B.weight")), "incompatible", "tensors"),
    (
        "unknown module",
        tensors(
            lambda held: [held.update({key.replace("layers.1", "layers.7"): held[key].clone()}) for key in [*held]]
        ),
        "incompatible",
        "tensors",
    ),
    (
        "wrong width",
        tensors(lambda held: held.update({f"{Q_PROJ}.lora_A.weight": torch.zeros(4, 31)})),
        "incompatible",
        "tensors",
    ),
    ("NaN", tensors(lambda held: held[f"{Q_PROJ}.lora_A.weight"].fill_(torch.nan)), "incompatible", "tensors"),
    ("infinity", tensors(lambda held: held[f"{Q_PROJ}.lora_B.weight"].fill_(torch.inf)), "incompatible", "tensors"),
    (
        "tensor of another variant",
        tensors(lambda held: held.update({f"{Q_PROJ}.lora_magnitude_vector": torch.ones(32)})),
        "incompatible",
        "tensors",
    ),
    (
        "integer tensor",
        tensors(lambda held: held.update({f"{Q_PROJ}.lora_A.weight": torch.zeros(4, 32, dtype=torch.int8)})),
        "incompatible",
        "tensors",
    ),
    ("calibration outside the roots", sourced("calibration", "/etc/passwd"), "forbidden_source", "calibration"),
    ("calibration by ftp", sourced("calibration", "ftp://host/rows"), "forbidden_source", "calibration"),
    ("absent calibration", sourced("calibration", "{root}/absent"), "malformed", "calibration"),
    ("calibration is a folder", sourced("calibration", "{root}/adapter"), "malformed", "calibration"),
    ("calibration is no JSON", row_file("calibration", "hello\n"), "malformed", "calibration"),
    ("calibration is no UTF-8", latin, "malformed", "calibration"),
    ("calibration is deep", row_file("calibration", "[" * 4000), "malformed", "calibration"),
    ("empty calibration", row_file("calibration", "\n\n"), "malformed", "calibration"),
    ("many calibration rows", num_rows("calibration", 5), "too_large", "calibration"),
    ("large calibration file", row_file("calibration", " " * 5000), "too_large", "calibration"),
    ("evaluation row without an answer", row_file("evaluation", '{"prompt": "p"}\n'), "malformed", "evaluation"),
    ("one evaluation row", num_rows("evaluation", 1), "malformed", "evaluation"),
    ("many evaluation rows", num_rows("evaluation", 7), "too_large", "evaluation"),
]


@pytest.mark.parametrize(
    ("spoil", "kind", "field"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_a_refusal_names_the_field_and_changes_nothing(bank: Bank, spoil: Spoil, kind: str, field: str) -> None:
    before = bank.listing()
    with pytest.raises(IntakeError) as refusal:
        bank.take_in(spoil(bank))
    assert (refusal.value.kind, refusal.value.field) == (kind, field)
    assert bank.listing() == before
    assert "staging" not in str(refusal.value)
    assert len(str(refusal.value)) > 20


def test_a_refusal_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(IntakeError("message", "name", "malformed")))
    assert (str(error), error.field, error.kind) == ("message", "name", "malformed")


def test_default_limits_fit_the_paper_and_the_engine() -> None:
    assert Limits() == Limits(2 * 1024**3, 256, 2000, 64 * 1024**2, 64)


def test_a_message_about_a_row_names_the_source_and_its_line(bank: Bank) -> None:
    path = bank.root / "evaluation.jsonl"
    path.write_text(path.read_text().replace('"answer": "1"', '"answer": 1'))
    with pytest.raises(IntakeError, match=r"evaluation\.jsonl line 2: field 'answer'") as refusal:
        bank.take_in(bank.registration)
    assert str(path) in str(refusal.value)


def test_json_written_by_other_tools_makes_the_same_revision(bank: Bank) -> None:
    first = bank.take_in(bank.registration)
    config = bank.adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=4, sort_keys=True))
    assert bank.take_in(bank.registration) == first
