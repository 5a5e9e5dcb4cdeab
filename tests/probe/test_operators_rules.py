"""What single operators do, on members for which that is known by hand."""

# ruff: noqa: N806 - U, S, V and the like are what the papers call these matrices

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probe.factors import LoraFactor, LoraUpdate, inner_product, norm, scaled
from probe.operators import OPERATORS, Members, Recipe
from probe.operators.dropping import dare, della
from probe.operators.lego import lego
from probe.operators.subspace import ctm_ties
from probe.operators.ties import ties
from tests import tiny
from tests.probe.calibrations import random_calibration, with_module
from tests.probe.members import (
    FULL_RANK,
    SHAPES,
    assert_same,
    bank,
    calibrations_for,
    dense,
    dense_stack,
    merged_by,
)

seeds = st.integers(0, 10_000)
SQUARE = {"m": (16, 16)}


def members_of(cores: Sequence[Sequence[Sequence[float]]] | Tensor, seed: int = 0, **changes: object) -> Members:
    values = torch.as_tensor(cores, dtype=torch.float64)
    fields: dict[str, object] = {
        "cores": values,
        "weights": torch.ones(len(values), dtype=torch.float64),
        "rank": FULL_RANK,
        "generator": torch.Generator().manual_seed(seed),
        "tolerance": 1e-12,
    }
    return Members(**fields | changes)  # type: ignore[arg-type]


def on_own_axes(strengths: Sequence[Sequence[float]], seed: int = 0) -> list[LoraUpdate]:
    """Return members whose singular vectors, on both sides, are all orthogonal; one row of singular values each."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(16, 16, generator=generator).double())[0] for _ in range(2))
    updates, start = [], 0
    for values in strengths:
        stop = start + len(values)
        s = torch.tensor(values, dtype=torch.float64)
        updates.append(LoraUpdate({"m": LoraFactor(B=U[:, start:stop] * s, A=V[:, start:stop].T)}))
        start = stop
    return updates


def at(operator: str, *, weights: tuple[float, ...] | None = None, **hyper_parameters: float) -> Recipe:
    return Recipe(operator, weights, "none", FULL_RANK, hyper_parameters=hyper_parameters)


def linear_sum(updates: Sequence[LoraUpdate]) -> dict[str, Tensor]:
    return {name: dense_stack(updates, name, shape).sum(0) for name, shape in SHAPES.items()}


def test_ties_on_a_table_worked_by_hand() -> None:
    """Columns: agreement, conflict that the second wins, one vote trimmed, votes that cancel."""
    first, second = [[4.0, 1.0, 0.1, 2.0]], [[2.0, -3.0, 5.0, -2.0]]
    members = members_of([first, second])
    torch.testing.assert_close(ties(members, density=0.75), torch.tensor([[3.0, -3.0, 5.0, 0.0]]).double())
    torch.testing.assert_close(ties(members, density=1.0), torch.tensor([[3.0, -3.0, 2.55, 0.0]]).double())


def test_ties_weighs_votes_and_means() -> None:
    members = members_of([[[1.0, 3.0]], [[-2.0, 1.0]]], weights=torch.tensor([3.0, 1.0]).double())
    torch.testing.assert_close(ties(members, density=1.0), torch.tensor([[1.0, 2.5]]).double())


def test_rounding_does_not_vote() -> None:
    members = members_of([[[1.0, 1e-15]], [[1e-15, 1.0]]])
    torch.testing.assert_close(ties(members, density=1.0), torch.tensor([[1.0, 1.0]]).double())


@settings(max_examples=20, deadline=None)
@given(seed=seeds, p=st.floats(0.05, 0.9))
def test_dare_keeps_an_entry_scaled_or_drops_it(seed: int, p: float) -> None:
    core = torch.rand(1, 6, 5, dtype=torch.float64) + 1
    seen = dare(members_of(core, seed), p=p) / core[0]
    is_kept = seen > 0
    torch.testing.assert_close(seen[is_kept], torch.full_like(seen[is_kept], 1 / (1 - p)))


def test_dare_is_the_sum_on_average() -> None:
    cores = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(1)).double()
    average = torch.stack([dare(members_of(cores, seed), p=0.5) for seed in range(4000)]).mean(0)
    spread = cores.square().sum(0).sqrt()  # the standard deviation of one draw at p = 1/2
    assert ((average - cores.sum(0)).abs() < 5 * spread / 4000**0.5).all()


def test_della_keeps_large_entries_more_often_and_scales_by_the_probability() -> None:
    core = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    draws = torch.stack([della(members_of(core, seed), density=0.5, eps=0.2) / core[0] for seed in range(4000)])
    expected = torch.tensor([0.35, 0.45, 0.55, 0.65], dtype=torch.float64)  # 0.5 - 0.2 + 0.4 (rank + 1/2) / 4
    assert ((draws > 0).double().mean((0, 1)) - expected).abs().max() < 0.04
    torch.testing.assert_close(draws.amax((0, 1)), 1 / expected)


def test_pico_weakens_directions_by_their_share() -> None:
    """On axes of its own a direction of energy e_j comes out as s / (1 + (n - 1) e_j)."""
    updates = on_own_axes([[3.0, 1.0], [2.0]])
    seen = torch.linalg.svdvals(dense(merged_by("pico", updates).update)["m"])[:3]
    expected = [s / (1 + s / 6) for s in (3.0, 2.0, 1.0)]
    torch.testing.assert_close(seen, torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)


def test_pico_counts_only_members_that_have_the_module() -> None:
    updates = on_own_axes([[3.0, 1.0], [2.0]])
    others = [LoraUpdate({**update.factors}) for update in updates]
    elsewhere = tiny.random_update(0, 2, {"other": (5, 5)})
    seen = merged_by("pico", [*others, elsewhere]).update.factors["m"]
    expected = merged_by("pico", updates).update.factors["m"]
    torch.testing.assert_close(seen.B @ seen.A, expected.B @ expected.A)


@pytest.mark.parametrize("operator", ["tsv", "svc", "concat"])
def test_on_orthogonal_supports_nothing_interferes(operator: str) -> None:
    updates = on_own_axes([[3.0, 1.0], [2.0], [0.5, 0.4]])
    assert_same(merged_by(operator, updates).update, {"m": dense_stack(updates, "m", (16, 16)).sum(0)}, SQUARE)


def test_on_equal_orthogonal_supports_pico_is_parallel_to_the_sum() -> None:
    updates = on_own_axes([[2.0, 2.0], [2.0, 2.0]])
    seen, total = merged_by("pico", updates).update, merged_by("ta", updates).update
    assert inner_product(seen, total) / norm(seen) / norm(total) == pytest.approx(1.0)


def test_svc_halves_what_two_members_both_write() -> None:
    [update] = bank(0, 1)
    assert_same(merged_by("svc", [update, scaled(update, 1.0)]).update, dense(update))


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_wudi_leaves_no_interference_on_independent_row_spaces(seed: int) -> None:
    updates = [tiny.random_update(seed + i, 3, SQUARE) for i in range(4)]
    merged = dense(merged_by(at("wudi_ridge", ridge=0.0), updates).update)["m"]
    for D in dense_stack(updates, "m", (16, 16)):
        assert float(((merged - D) @ D.T).norm() / D.square().sum()) < 1e-4


def test_the_ridge_of_wudi_keeps_members_of_one_row_space_in_bounds() -> None:
    A = tiny.random_update(0, 4, SQUARE).factors["m"].A
    updates = []
    for seed in range(5):
        other = tiny.random_update(seed + 1, 4, SQUARE).factors["m"]
        updates.append(LoraUpdate({"m": LoraFactor(B=other.B, A=A + 1e-3 * other.A)}))
    bare = norm(merged_by(at("wudi_ridge", ridge=0.0), updates).update)
    held = norm(merged_by("wudi_ridge", updates).update)
    assert held < 2 * norm(merged_by("ta", updates).update) < bare / 10


def test_regmean_on_alike_inputs_is_the_mean() -> None:
    updates = bank(0)
    calibration = random_calibration(0, SHAPES)
    merged = merged_by(at("regmean", shrink=0.0), updates, [calibration] * 3)
    present = {name: sum(name in update.factors for update in updates) for name in SHAPES}
    assert_same(merged.update, {name: total / present[name] for name, total in linear_sum(updates).items()})


def test_regmean_shrunk_all_the_way_weighs_members_by_the_power_of_their_inputs() -> None:
    updates, calibrations = bank(0), calibrations_for(bank(0))
    merged = dense(merged_by(at("regmean", shrink=1.0), updates, calibrations).update)["a"]
    parts = [calibration.modules["a"] for calibration in calibrations]
    powers = [float(part.energy_in.sum()) + part.floor_in * (12 - 3) for part in parts]
    D = dense_stack(updates, "a", SHAPES["a"])
    expected = sum(p * d for p, d in zip(powers, D, strict=True)) / sum(powers)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)


def test_osrm_at_full_strength_is_regmean() -> None:
    updates, weights = bank(0), (1.0, 2.0, 0.5)
    expected = merged_by(at("regmean", weights=weights, shrink=0.0), updates)
    assert_same(merged_by(at("osrm_post", weights=weights, mu=1.0), updates).update, dense(expected.update))


@pytest.mark.parametrize("operator", ["osrm_post", "regmean"])
def test_members_keep_still_on_inputs_of_the_others(operator: str) -> None:
    """Where tasks have inputs of their own, each member answers on its own inputs and nobody else does."""
    updates = [tiny.random_update(seed, 4, SQUARE) for seed in range(2)]
    P = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))[0]
    parts = [P[:, :8], P[:, 8:]]
    neutral = {"energy_in": torch.ones(8), "floor_in": 1e-9}
    calibrations = [with_module(random_calibration(0, SQUARE), "m", P_in=part, **neutral) for part in parts]
    recipe = at("osrm_post", mu=1.0) if operator == "osrm_post" else at("regmean", shrink=0.0)
    M = dense(merged_by(recipe, updates, calibrations).update)["m"]
    for D, part in zip(dense_stack(updates, "m", (16, 16)), parts, strict=True):
        torch.testing.assert_close(M @ part.double(), D @ part.double(), rtol=1e-4, atol=1e-4)


def test_fisher_gives_an_entry_to_the_member_that_needs_it() -> None:
    cores = [[[1.0, 1.0]], [[5.0, 5.0]]]
    members = members_of(cores, fisher=torch.tensor([[[1.0, 0.0]], [[0.0, 7.0]]]).double())
    merged = OPERATORS["fisher_core"].rule(members, floor=1e-6)
    torch.testing.assert_close(merged, torch.tensor([[1.0, 5.0]]).double(), rtol=1e-4, atol=1e-4)


def test_ctm_at_full_rank_is_the_sum() -> None:
    updates = bank(0)
    assert_same(merged_by("ctm", updates).update, linear_sum(updates))


@pytest.mark.parametrize("seed", range(8))
def test_a_member_outside_the_common_subspace_does_not_vote(seed: int) -> None:
    """What is left of it there is rounding, whose signs would halve the others' entries."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(6, 6, generator=generator).double())[0] for _ in range(2))
    strong, weak = 3.0 * torch.outer(U[:, 0], V[:, 0]), 0.5 * torch.outer(U[:, 1], V[:, 1])
    merged = ctm_ties(members_of(torch.stack([strong, weak]), rank=1), beta=1.0, density=1.0)
    torch.testing.assert_close(merged, strong)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, rank=st.integers(1, 5))
def test_ctm_keeps_more_of_the_members_than_the_sums_own_subspace(seed: int, rank: int) -> None:
    """Alternation never loses against the subspaces that it starts from."""
    updates = [tiny.random_update(seed + i, 3, SQUARE) for i in range(4)]
    D = dense_stack(updates, "m", (16, 16))
    units = D / torch.linalg.matrix_norm(D)[:, None, None]
    merged = merged_by(Recipe("ctm", norm="none", rank=rank, hyper_parameters={"beta": 0.0}), updates).update.factors[
        "m"
    ]
    U, V = torch.linalg.qr(merged.B.double())[0], torch.linalg.qr(merged.A.double().T)[0]
    start_U = torch.linalg.svd(torch.cat(tuple(units), 1))[0][:, :rank]
    start_V = torch.linalg.svd(torch.cat(tuple(units.mT), 1))[0][:, :rank]
    kept, before = (float((u.T @ units @ v).square().sum()) for u, v in ((U, V), (start_U, start_V)))
    assert kept >= before * (1 - 1e-6)


@pytest.mark.parametrize("operator", ["gam", "gam_transport"])
def test_gam_has_the_rank_of_its_reference(operator: str) -> None:
    updates = [scaled(tiny.random_update(0, 3, SQUARE), 10.0), tiny.random_update(1, 5, SQUARE)]
    assert merged_by(operator, updates).update.rank == 3


def test_gam_averages_balanced_factors_of_one_gauge() -> None:
    """Aligned factors of D and 4 D are those of D times 1 and 2: their means multiply to 1.5 squared."""
    [update] = on_own_axes([[2.0, 1.0]])
    merged = merged_by("gam", [update, scaled(update, 4.0)])
    assert_same(merged.update, {"m": dense(update)["m"] * 1.5**2}, SQUARE)


def test_transport_drops_what_the_reference_has_no_room_for() -> None:
    updates = on_own_axes([[3.0, 1.0], [2.0]])
    assert_same(merged_by("gam_transport", updates).update, {"m": dense(updates[0])["m"] / 2}, SQUARE)


def test_lego_puts_alike_units_into_one() -> None:
    """Three members share two directions: two clusters, each of three units, a member's own length."""
    updates = [scaled(update, factor) for factor in (1.0, 1.1, 0.9) for update in on_own_axes([[3.0, 1.0]])]
    merged = merged_by(Recipe("lego", norm="none", rank=2), updates)
    s = torch.linalg.svdvals(dense(merged.update)["m"])[:2]
    root = sum(factor**0.5 for factor in (1.0, 1.1, 0.9)) / 3
    torch.testing.assert_close(s, torch.tensor([3.0, 1.0]).double() * root**2, rtol=1e-4, atol=1e-4)


def test_lego_keeps_the_mean_length_of_its_units() -> None:
    """Two units at an angle: their mean is shorter than they are, and is stretched back."""
    left, right = [[1.0, 0.0], [0.0, 0.0]], [[0.36, 0.48], [0.48, 0.64]]
    merged = lego(members_of([left, right], rank=1))
    assert float(merged.norm()) == pytest.approx(1.0)


def test_iso_gives_every_direction_of_the_sum_the_same_strength() -> None:
    updates = on_own_axes([[3.0, 1.0], [2.0]])
    s = torch.linalg.svdvals(dense(merged_by("iso", updates).update)["m"])
    torch.testing.assert_close(s[:3], torch.full((3,), 2.0).double(), rtol=1e-5, atol=1e-5)
    assert float(s[3]) < 1e-5


def test_iso_still_truncates_to_the_strongest_directions() -> None:
    updates = on_own_axes([[3.0, 1.0], [2.0]])
    merged = merged_by(Recipe("iso", norm="none", rank=1), updates)
    strongest = dense(updates[0])["m"]
    u, _, vh = torch.linalg.svd(strongest)
    assert_same(merged.update, {"m": 2.0 * torch.outer(u[:, 0], vh[0])}, SQUARE)


def test_knots_votes_on_inputs() -> None:
    """Members that write one direction from two inputs each: conflict on the shared input alone."""
    b = torch.zeros(16, 1)
    b[0] = 1.0
    rows = torch.zeros(2, 16)
    rows[0, :2] = torch.tensor([2.0, 1.0])
    rows[1, 1:3] = torch.tensor([-3.0, 4.0])
    updates = [LoraUpdate({"m": LoraFactor(B=b, A=row[None])}) for row in rows]
    merged = dense(merged_by(at("knots_ties", density=1.0), updates).update)["m"]
    torch.testing.assert_close(merged[0, :3], torch.tensor([2.0, -3.0, 4.0]).double(), rtol=1e-5, atol=1e-5)
