"""From measured signals to what a predictor is asked, and from its answers to what a planner is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.predictors.fitting import fit, write_predictor
from probe.predictors.forecast import AdapterEvidence, PredictorError
from probe.records import Pruned
from probe.vectors import Features, PairFeatures
from router.records import Recipe
from serve.forecasts import BankForecasts, load_predictor
from serve.known import Known
from serve.signals.evidence import AdapterMeasured, PairMeasured
from tests.planted_bank import Planting, planted_bank
from tests.probe.predictors.small import OPTIONS
from tests.serve.bank import TinyBank
from tests.serve.planted_predictor import PlantedPredictor

MODULES = tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in range(6))
NOTHING = np.empty(0)


def adapter(profile: str | None = None) -> AdapterMeasured:
    return AdapterMeasured(AdapterEvidence(np.zeros(3), 1.0), MODULES, 6, profile)


def pair(forth: object = NOTHING, back: object = NOTHING) -> PairMeasured:
    features = Features(np.zeros(2), {})
    damage = np.asarray(forth, dtype=np.float64), np.asarray(back, dtype=np.float64)
    return PairMeasured(PairFeatures(features, features, features), damage)


RECIPE = Recipe("ta", ("r-a", "r-b"), (1.0, 1.0), "none", 16)


def known(**changes: object) -> Known:
    parts = {"adapters": {"r-a": adapter(), "r-b": adapter()}, "pairs": {("r-a", "r-b"): pair()}}
    return Known(**(parts | changes))  # type: ignore[arg-type]


# What is asked


def test_a_recipe_is_asked_as_it_is() -> None:
    asked = known().merge(replace(RECIPE, weights=(1.0, 0.5))).recipe
    assert (asked.operator, asked.norm, asked.rank, asked.weights) == ("ta", "none", 16, (1.0, 0.5))
    assert asked.action == "reweight"
    assert known().merge(RECIPE).recipe.action == "merge"


def test_weights_by_band_are_their_mean_and_pruned_modules_a_share_of_their_band() -> None:
    pruned = tuple(Pruned(1, module) for module in (*MODULES[:2], MODULES[4]))
    asked = known().merge(replace(RECIPE, weights=((1.0, 0.5, 0.0), 1.0), pruned=pruned)).recipe
    assert asked.weights == (0.5, 1.0)
    assert asked.pruned == ({}, {"lower": 1.0, "upper": 0.5})
    assert asked.action == "prune"


@pytest.mark.parametrize(
    ("changes", "recipe"),
    [
        ({"pairs": {}}, RECIPE),
        ({"adapters": {"r-a": adapter()}}, RECIPE),
        ({}, replace(RECIPE, operator="regmean")),
        ({"adapters": {"r-a": adapter("p"), "r-b": adapter()}}, replace(RECIPE, operator="regmean")),
        ({}, replace(RECIPE, pruned=(Pruned(0, MODULES[0], 2),))),
    ],
    ids=["no pair", "no adapter", "no profiles", "one profile", "a component"],
)
def test_what_is_not_known_is_not_asked(changes: dict[str, object], recipe: Recipe) -> None:
    assert known().covers(RECIPE)
    assert not known(**changes).covers(recipe)


def test_an_operator_that_reads_data_is_asked_about_where_every_member_has_a_profile() -> None:
    calibrated = {"r-a": adapter("p"), "r-b": adapter("q")}
    assert known(adapters=calibrated).covers(replace(RECIPE, operator="regmean"))


# What is told


def test_the_parts_that_hurt_most_come_first_and_each_member_keeps_a_band() -> None:
    conflict = pair(forth=(0, 0, 4, 4, 0, 1), back=(1, 0, 0, 0, 0, 0))
    parts = known(pairs={("r-a", "r-b"): conflict}).conflicts(("r-a", "r-b"))
    assert [(part.member, part.modules, part.share) for part in parts] == [
        ("r-a", MODULES[2:4], 0.8),
        ("r-a", MODULES[4:], 0.1),
        ("r-b", MODULES[:2], 0.1),
        ("r-b", MODULES[2:4], 0.0),
    ]
    for member in ("r-a", "r-b"):
        dropped = {module for part in parts if part.member == member for module in part.modules}
        assert dropped < set(MODULES)


def test_without_calibration_there_is_no_conflict_to_tell() -> None:
    assert known().conflicts(("r-a", "r-b")) == []
    assert known().conflicts(("r-a", "r-gone")) == []


def test_a_pair_is_told_where_most_of_its_conflict_lies() -> None:
    forecast = PlantedPredictor(str).forecast([known().merge(RECIPE)], known().evidence)[0]
    assert known().group_forecast(RECIPE, forecast).note == ""
    conflict = pair(forth=(0, 0, 9, 1, 0, 0), back=(0, 0, 0, 1, 0, 0))
    told = known(pairs={("r-a", "r-b"): conflict}).group_forecast(RECIPE, forecast)
    assert told.note == "conflict mostly in layer 2"
    assert told.retention == {"r-a": 1.0, "r-b": 1.0}
    assert told.lower_bound == {"r-a": 0.98, "r-b": 0.98}


# Over a bank


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path)
    for name in "abc":
        bank.register(name)
    yield bank
    bank.registry.close()


def revisions(bank: TinyBank) -> dict[str, str]:
    return {adapter.name: adapter.revision for adapter in bank.registry.adapters()}


def forecasts(bank: TinyBank, **planted: object) -> tuple[BankForecasts, PlantedPredictor]:
    names = {revision: name for name, revision in revisions(bank).items()}
    predictor = PlantedPredictor(names.__getitem__, **planted)  # type: ignore[arg-type]
    found = BankForecasts(predictor, bank.bank.signals._subjects)  # type: ignore[arg-type]
    found.see(bank.registry.adapters())
    return found, predictor


def recipe(bank: TinyBank, *names: str) -> Recipe:
    members = tuple(sorted(revisions(bank)[name] for name in names))
    return Recipe("ta", members, (1.0,) * len(members), "none", 16)


def test_nothing_is_forecast_before_it_is_measured_and_all_in_one_go_after(bank: TinyBank) -> None:
    found, predictor = forecasts(bank, kept={"a": 0.7})
    assert found.groups([recipe(bank, "a", "b")]) == [None]
    assert predictor.asked == []
    bank.bank.signals.round()
    pairs = [recipe(bank, "a", "b"), recipe(bank, "b", "c"), recipe(bank, "a", "b", "c")]
    answers = found.groups(pairs)
    assert [min(answer.retention.values()) for answer in answers if answer] == [0.7, 1.0, 0.7]
    assert len(predictor.evidence) == 1
    assert set(predictor.evidence[0].adapters) == set(revisions(bank).values())


def test_a_version_changes_with_what_is_measured_of_an_adapter_or_its_pairs_and_else_stays(bank: TinyBank) -> None:
    found, _ = forecasts(bank)
    own = revisions(bank)
    before = {name: found.version(revision) for name, revision in own.items()}
    bank.bank.signals.round()
    after = {name: found.version(revision) for name, revision in own.items()}
    assert all(before[name] != after[name] for name in own)
    again, _ = forecasts(bank)
    assert {name: again.version(revision) for name, revision in own.items()} == after


def test_a_predictor_that_cannot_read_the_signals_leaves_groups_unknown(bank: TinyBank) -> None:
    bank.bank.signals.round()
    found, _ = forecasts(bank, error=PredictorError("planted: other columns"))
    assert found.groups([recipe(bank, "a", "b")]) == [None]


def test_a_member_that_is_not_in_the_bank_is_unknown(bank: TinyBank) -> None:
    bank.bank.signals.round()
    found, _ = forecasts(bank)
    stranger = replace(recipe(bank, "a", "b"), members=("0" * 64, revisions(bank)["a"]))
    assert found.groups([stranger]) == [None]
    assert found.neighbours("0" * 64) == ()


def test_an_infinite_bound_is_told_as_it_is(bank: TinyBank) -> None:
    bank.bank.signals.round()
    found, _ = forecasts(bank, margin=math.inf)
    (answer,) = found.groups([recipe(bank, "a", "b")])
    assert answer is not None
    assert set(answer.lower_bound.values()) == {-math.inf}


def test_a_fitted_predictor_reads_what_a_bank_measures(bank: TinyBank, tmp_path: Path) -> None:
    records, _ = planted_bank(Planting(num_sets=8))
    write_predictor(tmp_path / "predictor", fit(records, replace(OPTIONS, num_trees=10)))
    bank.bank.signals.round()
    found = BankForecasts(load_predictor(str(tmp_path / "predictor")), bank.bank.signals._subjects)
    found.see(bank.registry.adapters())
    for names in ("ab", "abc"):
        (answer,) = found.groups([recipe(bank, *names)])
        assert answer is not None
        assert all(math.isfinite(kept) for kept in answer.retention.values())
        assert 0 <= answer.safe_probability <= 1
