import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.retention import RetentionError, gain, paired_loss, retention, retention_in_words, standard_error

scores = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 3), min_size=2, max_size=40)


def test_retention_is_the_ratio_of_gains() -> None:
    base, single, merged = [0.0] * 8 + [1.0] * 2, [1.0] * 9 + [0.0], [1.0] * 7 + [0.0] * 2 + [1.0]
    result = retention(base, single, merged)
    assert result.value == pytest.approx((0.8 - 0.2) / (0.9 - 0.2))
    assert result.num_rows == 10
    assert result.lower_bound < result.value


def test_retention_above_one_is_not_clipped() -> None:
    assert retention([0.0] * 4, [1.0, 0.0, 1.0, 1.0], [1.0] * 4).value == pytest.approx(4 / 3)


def test_standard_error_is_close_to_the_bootstraps() -> None:
    generator = np.random.default_rng(0)
    rows = _draw(generator, 400, base=0.2, single=0.9, kept=0.9, won=0.1)
    draws = generator.integers(0, 400, size=(2000, 400))
    means = [row[draws].mean(axis=1) for row in rows]
    bootstrap = ((means[2] - means[0]) / (means[1] - means[0])).std()
    assert retention(*rows).standard_error == pytest.approx(bootstrap, rel=0.1)


@pytest.mark.parametrize("num_rows", [2, 5, 10, 20, 50, 200])
def test_perfect_agreement_is_no_certainty(num_rows: int) -> None:
    """No disagreement in n rows: the bound is the exact binomial one or a little lower."""
    exact = 0.1 ** (1 / num_rows)
    bound = retention([0.0] * num_rows, [1.0] * num_rows, [1.0] * num_rows).lower_bound
    assert bound <= exact + 0.001
    assert num_rows < 5 or bound >= exact - 0.05


@pytest.mark.parametrize(
    ("base", "single"), [([0.0], [1.0]), ([0.0] * 9, [1.0] + [0.0] * 8), ([0.0] * 5, [0.0] * 5), ([1.0] * 5, [0.0] * 5)]
)
def test_without_a_significant_gain_no_bound_can_pass(base: list[float], single: list[float]) -> None:
    assert retention(base, single, single).lower_bound == -math.inf


def test_without_a_positive_gain_retention_is_undefined() -> None:
    result = retention([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])
    assert math.isnan(result.value)
    assert math.isnan(result.standard_error)


@settings(max_examples=200, deadline=None)
@given(rows=scores)
def test_the_bound_is_never_above_the_estimate(rows: list[tuple[float, float, float]]) -> None:
    result = retention(*zip(*rows, strict=True))
    assert not math.isnan(result.lower_bound)
    assert result.lower_bound == -math.inf or result.lower_bound <= max(result.value, 0.0) + 1e-9


@settings(max_examples=50, deadline=None)
@given(rows=scores, order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[float, float, float]], order: object) -> None:
    shuffled = sorted(rows)
    first, second = retention(*zip(*rows, strict=True)), retention(*zip(*shuffled, strict=True))
    assert (first.value, first.lower_bound) == pytest.approx((second.value, second.lower_bound), nan_ok=True)


def _draw(
    generator: np.random.Generator, num_rows: int, base: float, single: float, kept: float, won: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw 0/1 scores: `single` where the base fails (0.95 where not), `kept` where single succeeds, else `won`."""
    u = generator.random((3, num_rows))
    b = u[0] < base
    s = np.where(b, u[1] < 0.95, u[1] < single)
    m = np.where(s, u[2] < kept, u[2] < won)
    return b.astype(float), s.astype(float), m.astype(float)


@pytest.mark.parametrize("num_rows", [50, 100, 200])
@pytest.mark.parametrize(
    ("base", "single", "kept", "won"),
    [(0.0, 1.0, 0.85, 0.0), (0.0, 0.8, 0.85, 0.0), (0.3, 0.9, 0.9, 0.1), (0.1, 0.6, 0.87, 0.0), (0.0, 1.0, 0.95, 0.0)],
)
def test_the_bound_covers_the_truth(num_rows: int, base: float, single: float, kept: float, won: float) -> None:
    """Coverage of the nominal 90 % bound on binary scores, true retention 0.85 and some around it."""
    right = base * 0.95 + (1 - base) * single
    truth = (right * kept + (1 - right) * won - base) / (right - base)
    generator = np.random.default_rng(num_rows)
    num_draws = 1000
    num_covered = sum(
        retention(*_draw(generator, num_rows, base, single, kept, won)).lower_bound <= truth for _ in range(num_draws)
    )
    assert num_covered / num_draws >= 0.88


def test_a_large_set_passes_a_gate_that_it_should_pass() -> None:
    rows = _draw(np.random.default_rng(0), 400, base=0.1, single=0.9, kept=0.95, won=0.0)
    assert retention(*rows).lower_bound > 0.85


def test_gain_is_paired_and_counts_when_over_two_standard_errors() -> None:
    result = gain([0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0])
    assert (result.value, result.num_rows) == (0.5, 4)
    assert result.standard_error == pytest.approx(0.5 / math.sqrt(3))
    assert not result.is_significant
    assert gain([0.0] * 9, [1.0] * 8 + [0.0]).is_significant
    assert not gain([0.0] * 9, [0.0] * 9).is_significant
    assert not gain([0.0], [1.0]).is_significant


def test_paired_loss_is_positive_where_the_second_is_worse() -> None:
    assert paired_loss([1.0, 1.0], [0.0, 1.0]) == (0.5, 0.5)
    assert standard_error([3.0]) == math.inf


@pytest.mark.parametrize(("base", "single"), [([], []), ([0.0], [0.0, 1.0]), ([math.nan], [1.0]), ([0.0], [math.inf])])
def test_unusable_scores_are_refused(base: list[float], single: list[float]) -> None:
    with pytest.raises(RetentionError):
        gain(base, single)


def test_words_say_the_bound_or_that_there_is_none() -> None:
    assert retention_in_words(0.949, 0.9) == "0.95 (at least 0.90)"
    assert retention_in_words(0.5, -math.inf) == "0.50 (no bound yet)"
