"""The simulated bank does what its parameters say."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from router.bank_state import Settings
from router.recipes import plain_recipes, without_part
from router.records import Recipe
from router.simulated_bank import BankModel, SimulatedBank, SimulationError
from router.simulated_forecasts import SimulatedForecasts

MODEL = BankModel()
BANK = SimulatedBank(50, MODEL, seed=0)
DOMAIN = {adapter.revision: adapter.domain for adapter in BANK.adapters}
PAIRS = list(combinations(sorted(DOMAIN), 2))
RANKS = dict.fromkeys(DOMAIN, 8)


def recipes(operator: str, norm: str, weights: tuple[float, float] = (1.0, 1.0)) -> list[Recipe]:
    return [Recipe(operator, pair, weights, norm, 8) for pair in PAIRS]


def retention(
    bank: SimulatedBank, operator: str = "ta", norm: str = "none", weights: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    return bank.retention(recipes(operator, norm, weights))


def test_the_same_seed_gives_the_same_bank_and_another_seed_another() -> None:
    again, other = SimulatedBank(50, MODEL, seed=0), SimulatedBank(50, MODEL, seed=1)
    assert again.adapters == BANK.adapters
    assert (retention(again) == retention(BANK)).all()
    assert (retention(other) != retention(BANK)).any()


def test_cosines_are_those_of_the_model() -> None:
    cosine = BANK.directions @ BANK.directions.T
    same = np.array([DOMAIN[one] == DOMAIN[other] for one, other in PAIRS])
    values = np.array([cosine[BANK.position[one], BANK.position[other]] for one, other in PAIRS])
    assert values[same].mean() == pytest.approx(MODEL.within, abs=0.03)
    assert values[~same].mean() == pytest.approx(MODEL.overlap, abs=0.03)
    assert np.diag(cosine) == pytest.approx(np.ones(50))


def test_without_conflict_and_noise_a_sum_keeps_what_it_overamplifies_least() -> None:
    calm = SimulatedBank(50, replace(MODEL, conflict=0.0, hidden=0.0, within=0.0, overlap=0.0))
    assert retention(calm).mean() == pytest.approx(1.0, abs=0.05)


def test_more_conflict_costs_more_retention_and_overlap_less() -> None:
    more = SimulatedBank(50, replace(MODEL, conflict=2 * MODEL.conflict), seed=0)
    assert retention(more).mean() < retention(BANK).mean()
    same = np.array([DOMAIN[one] == DOMAIN[other] for one, other in PAIRS])
    mean = retention(BANK, "mean")
    assert mean[same].mean() > mean[~same].mean()


def test_retention_is_directional_and_safety_is_the_usual_victim() -> None:
    kept = retention(BANK)
    assert np.abs(kept[:, 0] - kept[:, 1]).mean() > 0.05
    safety = [DOMAIN[member] == "safety" for pair in PAIRS for member in pair]
    values = kept.reshape(-1)
    assert values[safety].mean() < values[np.logical_not(safety)].mean()


def test_less_weight_of_one_spares_the_other() -> None:
    lighter = retention(BANK, weights=(1.0, 0.25))
    assert lighter[:, 0].mean() > retention(BANK)[:, 0].mean()
    assert lighter[:, 1].mean() < retention(BANK)[:, 1].mean()


def test_pruning_the_hottest_part_helps_its_victims_most() -> None:
    forecasts = SimulatedForecasts(BANK, Settings())
    helped = []
    for recipe in recipes("ta", "none")[::40]:
        parts = forecasts.conflicts(recipe.members)
        kept = [BANK.retention([without_part(recipe, part)])[0] for part in (parts[0], parts[-1])]
        victim = 1 - recipe.members.index(parts[0].member)
        helped.append(kept[0][victim] - BANK.retention([recipe])[0][victim])
    assert np.mean(helped) > 0.05


def test_layers_carry_the_conflict_that_the_model_says() -> None:
    members = BANK.members_of(recipes("ta", "none"))
    damage = BANK.damage(members, np.zeros((len(PAIRS), 2, 2)))
    shares = damage.sum(axis=(0, 1, 2))
    assert shares[-2:].sum() / shares.sum() == pytest.approx(MODEL.upper_share, abs=0.05)


def test_impossible_cosines_are_refused() -> None:
    with pytest.raises(SimulationError, match="0 <= overlap <= within"):
        BankModel(within=0.2, overlap=0.5)


# Forecasts.


def test_bounds_cover_as_they_promise() -> None:
    forecasts = SimulatedForecasts(BANK, Settings(), num_labels=400)
    asked = [plain_recipes(pair, RANKS, Settings())[0] for pair in PAIRS]
    truth = BANK.retention(asked)
    found = forecasts.groups(asked)
    kept = [
        truth[row, place] >= forecast.lower_bound[member]
        for row, (recipe, forecast) in enumerate(zip(asked, found, strict=True))
        for place, member in enumerate(recipe.members)
    ]
    assert 0.85 < np.mean(kept) < 0.99


def test_too_few_labels_leave_every_bound_infinite() -> None:
    [forecast] = SimulatedForecasts(BANK, Settings(), num_labels=8).groups(recipes("ta", "none")[:1])
    assert set(forecast.lower_bound.values()) == {-np.inf}


def test_forecasts_sharpen_with_what_was_seen() -> None:
    asked = recipes("ta", "none")
    expected = BANK.expected(asked)

    def error(rho: float) -> float:
        found = SimulatedForecasts(BANK, Settings(), rho=rho).groups(asked)
        points = np.array([list(forecast.retention.values()) for forecast in found])
        return float(np.abs(points - expected).mean())

    assert error(1.0) < error(0.1) / 2 < error(0.02) / 2


def test_neighbours_are_the_closest_and_not_oneself() -> None:
    forecasts = SimulatedForecasts(BANK, Settings())
    scores = BANK.closeness(slice(0, 50))
    for place, adapter in enumerate(BANK.adapters[:5]):
        near = [BANK.position[other] for other in forecasts.neighbours(adapter.revision)]
        assert place not in near
        assert list(scores[place, near]) == sorted(scores[place, near], reverse=True)
        others = sorted(set(range(50)) - {place, *near})
        assert scores[place, others].max() <= scores[place, near].min()


def test_parts_never_make_up_a_whole_member() -> None:
    parts = SimulatedForecasts(BANK, Settings()).conflicts(PAIRS[0])
    assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
    for member in PAIRS[0]:
        assert sum(part.member == member for part in parts) == 5, "of six blocks"
