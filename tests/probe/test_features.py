import dataclasses
import math

import numpy as np
import pytest

from probe.factors import scaled
from probe.features import (
    ADAPTER_COLUMNS,
    DIRECTED_COLUMNS,
    SCHEMA_VERSION,
    SYMMETRIC_COLUMNS,
    FeatureError,
    Features,
    PairFeatures,
    Standardisation,
    Trajectory,
    adapter_features,
    pair_features,
    pair_vector,
    pair_vector_names,
)
from probe.profiles import AdapterProfile, CrossTask, JointLoss, Metadata, Shift, profile_of
from probe.signals import PAIR_SIGNALS, Family, Pair, measure_pair
from tests import tiny
from tests.probe.calibrations import random_calibration

METADATA = Metadata("math", 500, 3.5, 0.1, 8, 2.0, 1e-3, 125, -0.01)
NUM_LAYERS = 6
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "mlp.up_proj")
SHAPES = {f"layers.{number}.{module}": (20, 12) for number in range(NUM_LAYERS) for module in MODULES}


def whole(seed: int, scale: float = 1.0) -> AdapterProfile:
    update = scaled(tiny.random_update(seed, 3, SHAPES), scale)
    return profile_of(update, NUM_LAYERS, METADATA, random_calibration(seed, SHAPES, num_layers=NUM_LAYERS))


def trajectory(seed: int) -> Trajectory:
    return Trajectory((0.02, 0.05, 0.1), tuple(whole(seed, scale) for scale in (0.1, 0.4, 1.0)))


def bare(seed: int, modules: int | dict[str, int] = 3) -> Trajectory:
    return Trajectory((1.0,), (profile_of(tiny.random_update(seed, modules, SHAPES), NUM_LAYERS),))


def features_of(first: Trajectory, second: Trajectory) -> tuple[Features, Features, PairFeatures]:
    shift = Shift(dict.fromkeys(range(NUM_LAYERS), 0.2), dict.fromkeys(range(NUM_LAYERS), 0.6), 4)
    crossed = None if first.now.calibration is None else CrossTask(shift, JointLoss(3.0, 1.0, 1.5, 2.0, 4))
    pair = pair_features(first, second, crossed, crossed)
    return adapter_features(first), adapter_features(second), pair


def value(features: Features, columns: tuple[object, ...], name: str) -> float:
    names = [column.name for column in columns]  # type: ignore[attr-defined]
    return float(features.values[names.index(name)])


def test_everything_measured_leaves_no_gap() -> None:
    first, second, pair = features_of(trajectory(0), trajectory(1))
    for features in (first, second, pair.forth, pair.back, pair.symmetric):
        assert features.missing == {}
        assert np.isfinite(features.values).all()


def test_every_gap_has_a_reason_and_only_gaps_do() -> None:
    first, _, pair = features_of(bare(0, {"layers.0.q_proj": 2}), bare(1))
    for features, columns in (
        (first, ADAPTER_COLUMNS),
        (pair.forth, DIRECTED_COLUMNS),
        (pair.symmetric, SYMMETRIC_COLUMNS),
    ):
        names = [column.name for column in columns]
        gaps = {name for name, number in zip(names, features.values, strict=True) if math.isnan(number)}
        assert gaps == features.missing.keys()
        assert all(features.missing.values())
    assert "calibration pass" in first.missing["base_loss/all/value"]
    assert "group 'mlp'" in first.missing["energy/mlp/mean"]
    assert "early checkpoints" in first.missing["energy/all/slope of mean"]


def test_the_order_of_the_columns_is_the_schema() -> None:
    """Pins the schema: whoever changes a column raises the version and this number with it."""
    assert SCHEMA_VERSION == 2
    assert (len(ADAPTER_COLUMNS), len(SYMMETRIC_COLUMNS), len(DIRECTED_COLUMNS)) == (216, 304, 112)
    for columns in (ADAPTER_COLUMNS, SYMMETRIC_COLUMNS, DIRECTED_COLUMNS):
        assert len({column.name for column in columns}) == len(columns)
    assert {column.family for column in ADAPTER_COLUMNS} == set(Family) - {Family.RANK_SPACE, Family.LOSS}
    assert ADAPTER_COLUMNS[0].name == "energy/all/mean"


def test_depth_does_not_change_the_number_of_features() -> None:
    deep = {f"layers.{n}.q_proj": (8, 8) for n in range(40)}
    profile = profile_of(tiny.random_update(0, 2, deep))
    assert len(adapter_features(Trajectory((1.0,), (profile,))).values) == len(ADAPTER_COLUMNS)


def test_swapping_a_pair_swaps_its_directions() -> None:
    _, _, pair = features_of(trajectory(0), trajectory(1))
    _, _, other = features_of(trajectory(1), trajectory(0))
    np.testing.assert_allclose(pair.forth.values, other.back.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pair.symmetric.values, other.symmetric.values, rtol=1e-5, atol=1e-6)
    assert not np.allclose(pair.forth.values, pair.back.values)


def test_slopes_and_variances_follow_the_checkpoints() -> None:
    first, _, pair = features_of(trajectory(0), trajectory(1))
    # The norm grows tenfold from 0.02 to 0.1 of training, and energy is its log10.
    assert value(first, ADAPTER_COLUMNS, "energy/all/slope of mean") == pytest.approx(1.2, abs=0.1)
    assert value(first, ADAPTER_COLUMNS, "spectral_rank/all/slope of mean") == pytest.approx(0, abs=1e-5)
    assert value(pair.symmetric, SYMMETRIC_COLUMNS, "cosine/all/variance of mean") == pytest.approx(0, abs=1e-9)


def test_a_finished_partner_is_compared_at_every_checkpoint_of_the_other() -> None:
    young, finished = trajectory(0), Trajectory((1.0,), (whole(1),))
    pair = pair_features(young, finished)
    assert math.isfinite(value(pair.symmetric, SYMMETRIC_COLUMNS, "gradient_cosine/all/variance of mean"))
    assert young.at(0.05) is young.profiles[1]
    assert finished.at(0.05) is finished.now


def test_the_weighted_mean_counts_modules_by_their_norms() -> None:
    names = ["layers.0.q_proj", "layers.1.q_proj"]
    first, second = tiny.random_update(0, 2, SHAPES), tiny.random_update(1, 2, SHAPES)
    longer = dataclasses.replace(
        first,
        factors={n: dataclasses.replace(f, B=f.B * (100 if n == names[0] else 1e-3)) for n, f in first.factors.items()},
    )
    one, two = (Trajectory((1.0,), (profile_of(update, NUM_LAYERS),)) for update in (longer, second))
    pair = pair_features(one, two)
    alone = measure_pair(PAIR_SIGNALS["cosine"], Pair(one.now, two.now)).values[names[0]]
    assert value(pair.symmetric, SYMMETRIC_COLUMNS, "cosine/all/weighted") == pytest.approx(alone, abs=1e-3)


def test_the_pair_vector_is_the_papers() -> None:
    first, second, pair = features_of(trajectory(0), trajectory(1))
    vector, names = pair_vector(first, second, pair), pair_vector_names()
    assert len(vector) == len(names) == 4 * 216 + 2 * 112 + 304
    at = dict(zip(names, vector, strict=True))
    i, j = at["i: energy/all/mean"], at["j: energy/all/mean"]
    assert at["|i-j|: energy/all/mean"] == abs(i - j)
    assert at["i*j: energy/all/mean"] == i * j
    assert at["i->j: norm_share/all/mean"] == pytest.approx(1 - at["j->i: norm_share/all/mean"])


def test_standardisation_centres_and_scales_what_is_known() -> None:
    rows = np.array([[1.0, 5.0, np.nan, 2.0], [3.0, 5.0, np.nan, np.nan]])
    standard = Standardisation.fit(rows)
    seen = standard(rows)
    np.testing.assert_allclose(seen[:, 0], [-1, 1])
    np.testing.assert_allclose(seen[:, 1], [0, 0])
    assert np.isnan(seen[:, 2]).all()
    assert seen[0, 3] == 0
    assert np.isnan(seen[1, 3])
    with pytest.raises(FeatureError, match=r"Got 3 columns.*fitted to 4"):
        standard(rows[:, :3])


@pytest.mark.parametrize("fractions", [(), (0.1, 0.05), (0.1,), (0.1, 0.1)])
def test_a_trajectory_needs_one_profile_for_each_rising_fraction(fractions: tuple[float, ...]) -> None:
    with pytest.raises(FeatureError, match="strictly rising"):
        Trajectory(fractions, (whole(0), whole(0)))
