"""What both sides of a merge say together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from probe.predictors.pair_model import all_safe

LOG_ODDS = st.floats(-30, 30)


@given(st.lists(LOG_ODDS, min_size=1, max_size=5))
def test_all_sides_are_safe_with_the_product_of_their_probabilities(margins: list[float]) -> None:
    together = expit(all_safe(np.array(margins)))
    assert together == pytest.approx(np.prod(expit(margins)), rel=1e-6)


def test_one_side_alone_is_what_it_was_and_a_hopeless_one_decides() -> None:
    assert all_safe(np.array([0.7])) == pytest.approx(0.7)
    assert all_safe(np.array([-20.0, 8.0])) == pytest.approx(-20.0, abs=0.01)
