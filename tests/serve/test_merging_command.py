"""`mergeprobe merge`: writes what vLLM and PEFT load, tells what it did, refuses before it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from probe.adapter_io import read_adapter, read_config
from probe.operators import OPERATORS, Recipe, merge
from probe.rows import Row, write_rows
from serve.cli import app
from tests import tiny
from tests.probe.test_reference import write_character_base

EXACT = ("--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    for seed, name in enumerate(("math", "code")):
        tiny.write_adapter(folder / name, rank=4 + 4 * seed, seed=seed)
    tiny.write_adapter(folder / "other", base_model_name_or_path="another")
    return folder


def invoke(folder: Path, out: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["merge", str(folder / "math"), str(folder / "code"), "--out", str(out), *options])
    return result.exit_code, result.output + str(result.exception or "")


def test_a_merge_is_written_and_is_the_librarys(folder: Path, tmp_path: Path) -> None:
    code, told = invoke(folder, tmp_path / "both", "--operator", "ties", "--set", "density=0.5", *EXACT, "--json")
    assert code == 0
    members = [read_adapter(folder / name) for name in ("math", "code")]
    expected = merge(members, Recipe("ties", hyper_parameters={"density": 0.5}))
    written = read_adapter(tmp_path / "both")
    assert written.factors.keys() == expected.update.factors.keys()
    for name, factor in written.factors.items():
        wanted = expected.update.factors[name]
        torch.testing.assert_close(factor.B @ factor.A, wanted.B @ wanted.A)
    assert read_config(tmp_path / "both").base_name == tiny.BASE_NAME
    report = json.loads(told)
    assert report["kept_energy"] == pytest.approx(expected.kept_energy)
    assert report["rank"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["both"]


def test_weights_seed_norm_and_rank_reach_the_operator(folder: Path, tmp_path: Path) -> None:
    options = ("--operator", "dare", "--weight", "1", "--weight", "0.5", "--seed", "3", "--norm", "none", "--rank", "2")
    options += EXACT
    code, _ = invoke(folder, tmp_path / "both", *options)
    assert code == 0
    members = [read_adapter(folder / name) for name in ("math", "code")]
    expected = merge(members, Recipe("dare", weights=(1.0, 0.5), seed=3, norm="none", rank=2)).update
    written = read_adapter(tmp_path / "both")
    for name, factor in written.factors.items():
        wanted = expected.factors[name]
        torch.testing.assert_close(factor.B @ factor.A, wanted.B @ wanted.A)


def test_an_operator_that_reads_data_gets_it(tmp_path: Path) -> None:
    base = write_character_base(tmp_path / "base")
    for seed, name in enumerate(("math", "code")):
        adapter = tiny.write_adapter(tmp_path / name, seed=seed)
        write_rows(adapter / "calibration.jsonl", [Row(f"<|im_start|>{name} {n}", str(n), "forced") for n in range(4)])
    options = ("--operator", "fisher_core", "--base", str(base), "--cache", str(tmp_path / "cache"))
    code, told = invoke(tmp_path, tmp_path / "both", *options)
    assert code == 0, told
    assert read_adapter(tmp_path / "both").rank <= 8


def test_weights_by_band_and_pruned_layers_reach_the_merge(folder: Path, tmp_path: Path) -> None:
    options = ("--operator", "ta", "--norm", "none", "--rank", "16", "--prune", "code:*.layers.1.*", *EXACT)
    code, told = invoke(folder, tmp_path / "both", "--weight", "2,3,4", "--weight", "1", *options)
    assert code == 0, told
    written = read_adapter(tmp_path / "both").factors
    math, other = (read_adapter(folder / name).factors for name in ("math", "code"))
    for name, factor in written.items():
        # Of two layers the first is lower, the second middle.
        in_first = ".layers.0." in name
        expected = (2.0 if in_first else 3.0) * math[name].B @ math[name].A
        expected = expected + other[name].B @ other[name].A if in_first else expected
        torch.testing.assert_close(factor.B @ factor.A, expected, rtol=1e-4, atol=1e-4)


REFUSALS = [
    (("--weight", "1,2"), "expected one number, or three"),
    (("--weight", "much"), "expected one number, or three"),
    (("--prune", "poem:*"), "0 adapters of that name (there are math, code)"),
    (("--prune", "math:*.k_proj"), "0 modules"),
    (("--prune", "math:*"), "Pruning leaves nothing"),
    (("--operator", "magic"), "'magic' is unknown"),
    (("--operator", "ties", "--set", "density=2"), "density is 2.0, expected"),
    (("--set", "density"), "expected NAME=NUMBER"),
    (("--set", "strength=1"), "no hyper-parameter 'strength'"),
    (("--weight", "1"), "one positive number each"),
    (("--norm", "longest"), "'longest' is unknown"),
    (("--dtype", "float16"), "bfloat16"),
    (("--rank", "0"), "greater than or equal to 1"),
    (("--operator", "concat", "--rank", "8"), "larger rank"),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_misuse_is_refused_and_nothing_is_written(
    options: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    code, told = invoke(folder, tmp_path / "both", *options)
    assert code != 0
    assert message in " ".join(told.replace("\u2502", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    code, told = invoke(folder, tmp_path / "both")
    assert code != 0
    assert "exists already" in told


def test_members_of_two_bases_are_refused(folder: Path, tmp_path: Path) -> None:
    code, told = invoke(folder, tmp_path / "both", str(folder / "other"))
    assert code != 0
    assert "one base model" in told
    assert "another" in told


def test_nothing_to_merge_is_said() -> None:
    result = CliRunner().invoke(app, ["merge"])
    assert result.exit_code == 2
    assert "--out DIR" in result.output


def test_the_operators_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    listed = CliRunner().invoke(app, ["merge", "--operator", "list"])
    told = json.loads(CliRunner().invoke(app, ["merge", "--operator", "list", "--json"]).output)
    assert told.keys() == OPERATORS.keys()
    assert all(key in listed.output for key in OPERATORS)
    assert told["fisher_core"]["needs"]
