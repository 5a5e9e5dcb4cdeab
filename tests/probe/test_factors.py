# ruff: noqa: N803, N806 - B, A and the like are what every LoRA paper calls these matrices
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probe.factors import (
    FactorError,
    LoraFactor,
    LoraUpdate,
    canonical,
    check_factor,
    core_space,
    factor_inner_product,
    inner_product,
    input_coordinates,
    norm,
    scaled,
    truncate,
)
from tests import tiny

SHAPE = (20, 12)


def random_factor(seed: int, rank: int, shape: tuple[int, int] = SHAPE) -> LoraFactor:
    return tiny.random_update(seed, rank, {"m": shape}).factors["m"]


def dense(factor: LoraFactor) -> Tensor:
    return factor.B.double() @ factor.A.double()


def regauged(factor: LoraFactor, seed: int) -> LoraFactor:
    """Return the same adapter in a random other gauge, in float64 so that the update stays the same."""
    G = torch.randn(factor.rank, factor.rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    G = G + 3 * torch.eye(factor.rank)
    return LoraFactor(B=factor.B.double() @ G, A=torch.linalg.solve(G, factor.A.double()))


seeds = st.integers(0, 10_000)
ranks = st.integers(1, 6)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rank=ranks)
def test_canonical_keeps_the_update_and_forgets_the_gauge(seed: int, rank: int) -> None:
    factor = random_factor(seed, rank)
    own, other = canonical(factor), canonical(regauged(factor, seed + 1))
    torch.testing.assert_close(dense(own), dense(factor))
    torch.testing.assert_close(own.B, other.B, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own.A, other.A, rtol=1e-6, atol=1e-6)


def test_canonical_is_balanced_with_positive_peaks() -> None:
    own = canonical(random_factor(0, 4))
    torch.testing.assert_close(own.B.T @ own.B, own.A @ own.A.T)
    assert (own.B.gather(0, own.B.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_canonical_drops_what_is_numerically_zero() -> None:
    factor = random_factor(0, 3)
    doubled = LoraFactor(B=torch.cat([factor.B, factor.B], 1), A=torch.cat([factor.A, factor.A], 0))
    assert canonical(doubled).rank == 3
    assert canonical(LoraFactor(B=torch.zeros(5, 2), A=torch.ones(2, 7))).rank == 0


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rank_pair=st.tuples(ranks, ranks))
def test_inner_products_are_those_of_dense_updates(seed: int, rank_pair: tuple[int, int]) -> None:
    first, second = random_factor(seed, rank_pair[0]), random_factor(seed + 1, rank_pair[1])
    expected = float((dense(first) * dense(second)).sum())
    assert factor_inner_product(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_whole_updates_sum_over_common_modules() -> None:
    first = tiny.random_update(0, {"a": 2, "b": 3}, {"a": SHAPE, "b": SHAPE})
    second = tiny.random_update(1, {"b": 1}, {"a": SHAPE, "b": SHAPE})
    expected = float((dense(first.factors["b"]) * dense(second.factors["b"])).sum())
    assert inner_product(first, second) == pytest.approx(expected)
    assert norm(first) == pytest.approx(math.hypot(*(float(dense(f).norm()) for f in first.factors.values())))
    assert norm(scaled(first, -2.0)) == pytest.approx(2 * norm(first))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rank_list=st.lists(st.one_of(st.none(), ranks), min_size=1, max_size=4))
def test_core_space_is_lossless(seed: int, rank_list: list[int | None]) -> None:
    factors = [None if rank is None else random_factor(seed + i, rank) for i, rank in enumerate(rank_list)]
    if all(factor is None for factor in factors):
        return
    space = core_space(factors)
    for factor, core in zip(factors, space.cores, strict=True):
        expected = torch.zeros(SHAPE, dtype=torch.float64) if factor is None else dense(factor)
        torch.testing.assert_close(space.Q_B @ core @ space.Q_A.T, expected, rtol=1e-9, atol=1e-9)
    for basis in (space.Q_B, space.Q_A):
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1], dtype=torch.float64))


def test_core_space_depends_neither_on_gauge_nor_on_order() -> None:
    first, second = random_factor(0, 2), random_factor(1, 3)
    space, other = core_space([first, second]), core_space([regauged(second, 5), first])
    torch.testing.assert_close(space.Q_B, other.Q_B, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(space.cores, other.cores.flip(0), rtol=1e-6, atol=1e-6)


def test_updates_that_share_a_row_space_share_a_basis() -> None:
    first = random_factor(0, 3)
    second = LoraFactor(B=random_factor(1, 3).B, A=first.A)
    assert core_space([first, second]).Q_A.shape[1] == 3


def orthonormal(seed: int, num_columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(SHAPE[1], num_columns, generator=torch.Generator().manual_seed(seed)))[0]


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rank=ranks, num_directions=st.integers(0, 12))
def test_a_wider_core_space_spans_the_directions_and_holds_the_same_updates(
    seed: int, rank: int, num_directions: int
) -> None:
    factors, directions = [random_factor(seed, rank), None], orthonormal(seed, num_directions).double()
    space = core_space(factors, directions)
    narrow = core_space(factors).cores.shape[2]
    assert space.Q_A is not None
    assert space.Q_A.shape == (SHAPE[1], min(SHAPE[1], narrow + num_directions))
    torch.testing.assert_close(space.Q_A.T @ space.Q_A, torch.eye(space.Q_A.shape[1], dtype=torch.float64))
    torch.testing.assert_close(space.Q_A @ (space.Q_A.T @ directions), directions)
    torch.testing.assert_close(space.Q_B @ space.cores[0] @ space.Q_A.T, dense(factors[0]), rtol=1e-9, atol=1e-9)


def test_directions_that_the_updates_span_already_add_nothing() -> None:
    factor = random_factor(0, 3)
    assert core_space([factor], factor.A.double().T @ orthonormal(1, 2)[:3].double()).cores.shape == (1, 3, 3)


def test_a_zero_update_has_a_core_space_of_the_directions_alone() -> None:
    space = core_space([LoraFactor(B=torch.zeros(20, 2), A=torch.zeros(2, 12))], orthonormal(0, 4))
    assert space.cores.shape == (1, 0, 4)


def test_input_coordinates_hold_the_same_updates() -> None:
    factors = [random_factor(0, 3), None, random_factor(1, 2)]
    space = input_coordinates(core_space(factors))
    assert (space.Q_A, space.cores.shape, space.size) == (None, (3, 5, 12), 20)
    torch.testing.assert_close(space.Q_B @ space.cores[2], dense(factors[2]), rtol=1e-9, atol=1e-9)
    assert not space.cores[1].any()
    assert input_coordinates(space) is space
    factor, kept, total = truncate(space, space.cores[0], 3)
    torch.testing.assert_close(dense(factor), dense(factors[0]), rtol=1e-4, atol=1e-4)
    assert kept == pytest.approx(total)


MALFORMED = [
    (torch.ones(5), torch.ones(1, 4), r"expected \(d_out, r\) and \(r, d_in\)"),
    (torch.ones(5, 2), torch.ones(3, 4), r"expected \(d_out, r\) and \(r, d_in\)"),
    (torch.ones(5, 0), torch.ones(0, 4), "rank 0 of a .* expected 1 to 4"),
    (torch.ones(5, 5), torch.ones(5, 4), "rank 5 of a .* expected 1 to 4"),
    (torch.full((5, 1), math.nan), torch.ones(1, 4), "NaN or infinite"),
    (torch.ones(5, 1), torch.full((1, 4), -math.inf), "NaN or infinite"),
]


@pytest.mark.parametrize(("B", "A", "message"), MALFORMED)
def test_factors_that_are_no_update_are_refused(B: Tensor, A: Tensor, message: str) -> None:
    with pytest.raises(FactorError, match=message):
        check_factor(LoraFactor(B=B, A=A))


def test_sound_factors_pass() -> None:
    check_factor(random_factor(0, 12))


@pytest.mark.parametrize(("size", "message"), [(1e80, "too large for float32"), (math.nan, "NaN or infinite")])
def test_results_that_no_file_could_hold_are_refused(size: float, message: str) -> None:
    space = core_space([random_factor(0, 2)])
    with pytest.raises(FactorError, match=message):
        truncate(space, space.cores[0] * size, 2)


@pytest.mark.parametrize("rank", [1, 3, 8, 50])
def test_truncation_is_that_of_the_dense_svd(rank: int) -> None:
    space = core_space([random_factor(0, 4), random_factor(1, 4)])
    core = space.cores.sum(0)
    factor, kept, total = truncate(space, core, rank)
    u, s, vh = torch.linalg.svd(space.Q_B @ core @ space.Q_A.T, full_matrices=False)
    expected = u[:, :rank] * s[:rank] @ vh[:rank]
    torch.testing.assert_close(dense(factor), expected, rtol=1e-4, atol=1e-4)
    assert factor.rank == min(rank, 8)
    assert kept / total == pytest.approx(float(s[:rank].square().sum() / s.square().sum()))


def test_a_zero_update_truncates_to_rank_one_of_zeros() -> None:
    space = core_space([LoraFactor(B=torch.zeros(5, 2), A=torch.zeros(2, 7))])
    factor, kept, total = truncate(space, space.cores[0], 4)
    assert (factor.rank, factor.shape, kept, total) == (1, (5, 7), 0.0, 0.0)
    assert not dense(factor).any()


def test_size_and_rank_of_an_update() -> None:
    update = LoraUpdate({"a": random_factor(0, 2), "b": random_factor(1, 5)})
    assert update.rank == 5
    assert update.num_bytes == 4 * 7 * sum(SHAPE)
