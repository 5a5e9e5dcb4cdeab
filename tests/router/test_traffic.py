"""Simulated traffic."""

from __future__ import annotations

import numpy as np
import pytest

from router.traffic import BURST_FACTOR, TICKS_A_DAY, TRACES, by_name


@pytest.mark.parametrize("name", TRACES)
def test_every_trace_is_a_function_of_its_seed_and_never_negative(name: str) -> None:
    one, again, other = (TRACES[name](50, seed) for seed in (1, 1, 2))
    for tick in (0, 7, 7):
        assert (one(tick) == again(tick)).all()
        assert one(tick).shape == (50,)
        assert (one(tick) >= 0).all()
    assert name == "uniform" or (one(0) != other(0)).any()


def test_a_zipf_traces_most_popular_adapter_gets_k_times_the_kth() -> None:
    requests = np.sort(TRACES["zipf"](40, 0)(0))[::-1]
    assert requests[0] / requests[9] == pytest.approx(10)


def test_a_diurnal_trace_returns_after_a_day() -> None:
    trace = TRACES["diurnal"](40, 0)
    assert trace(3) == pytest.approx(trace(3 + TICKS_A_DAY))
    assert not np.allclose(trace(3), trace(3 + TICKS_A_DAY // 2))


def test_bursts_are_rare_and_large() -> None:
    trace, quiet = TRACES["bursts"](500, 0), TRACES["zipf"](500, 0)(0)
    factors = np.concatenate([trace(tick) / quiet for tick in range(10)])
    assert set(np.round(factors).tolist()) == {1.0, BURST_FACTOR}
    assert 0.005 < (factors > 1.5).mean() < 0.05


def test_traffic_is_named_as_a_bank_state_takes_it() -> None:
    assert by_name(["a", "b"], np.array([2.0, 1.0])) == {"a": 2.0, "b": 1.0}
