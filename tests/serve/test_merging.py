"""One merge from files to files, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from probe.adapter_io import read_adapter, revision_of
from probe.operators import OPERATORS, MergeError, merge
from probe.records import Pruned
from router.records import Recipe
from serve.merging import MergeReport, merge_files, probe_recipe
from tests import tiny

MODULE = "model.layers.1.self_attn.v_proj"
RECIPE = Recipe("ta", ("a" * 64, "b" * 64), (1.0, 0.5), "none", 8)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [tiny.write_adapter(tmp_path / str(seed), seed=seed) for seed in range(2)]


def run(folders: list[Path], recipe: Recipe, target: Path) -> MergeReport:
    return merge_files(folders, recipe, tiny.BASE_NAME, target)


@pytest.mark.parametrize("operator", [key for key, row in OPERATORS.items() if not row.needs])
def test_every_operator_that_needs_no_data_writes_a_module_of_its_rank(
    folders: list[Path], tmp_path: Path, operator: str
) -> None:
    report = run(folders, replace(RECIPE, operator=operator), tmp_path / "module")
    written = read_adapter(tmp_path / "module")
    assert written.factors.keys() == read_adapter(folders[0]).factors.keys()
    assert written.rank <= 8
    assert 0 < report.kept_energy <= 1
    assert report.norm_ratio_mean_source > 0
    assert report.seconds > 0
    assert report.peak_memory_bytes > 10 << 20, "the process's peak, in bytes"


def test_an_operator_that_needs_data_is_a_merge_error(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="needs one calibration a member"):
        run(folders, replace(RECIPE, operator="regmean"), tmp_path / "module")


def test_every_part_of_a_recipe_reaches_the_operator() -> None:
    parts = replace(
        RECIPE, weights=((1.0, 2.0, 3.0), 0.5), pruned=(Pruned(1, MODULE, 0),), hyper_parameters=(("p", 0.3),), seed=7
    )
    translated = probe_recipe(parts)
    assert (translated.operator, translated.norm, translated.rank) == ("ta", "none", 8)
    assert translated.weights == ((1.0, 2.0, 3.0), 0.5)
    assert translated.pruned == (Pruned(1, MODULE, 0),)
    assert translated.hyper_parameters == {"p": 0.3}
    assert translated.seed == 7


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECIPE, weights=(1.0, (0.5, 2.0, 0.5))),
        replace(RECIPE, pruned=(Pruned(0, MODULE, 0),)),
        replace(RECIPE, operator="dare", hyper_parameters=(("p", 0.0),)),
        replace(RECIPE, operator="dare", seed=1),
    ],
    ids=["weights by band", "pruned", "hyper-parameter", "seed"],
)
def test_every_part_of_a_recipe_changes_what_is_written(folders: list[Path], tmp_path: Path, changed: Recipe) -> None:
    run(folders, replace(RECIPE, operator=changed.operator), tmp_path / "plain")
    run(folders, changed, tmp_path / "changed")
    assert revision_of(tmp_path / "changed") != revision_of(tmp_path / "plain")


def test_the_report_is_the_merge_s(folders: list[Path], tmp_path: Path) -> None:
    recipe = replace(RECIPE, rank=1)
    merged = merge([read_adapter(folder) for folder in folders], probe_recipe(recipe))
    report = run(folders, recipe, tmp_path / "module")
    assert report.kept_energy == merged.kept_energy < 1
    assert report.norm_ratio_mean_source == merged.norm_ratio_mean_source
    assert report.norm_ratio_ta == merged.norm_ratio_ta
