"""The set model: torch and numpy agree, no order of members matters, and without labels the weakest pair decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe.bank.records import Records
from probe.predictors.dataset import schema_of
from probe.predictors.forecast import Merge, MergeRecipe
from probe.predictors.schema import SIGNALS
from probe.predictors.set_inputs import PairMatrix, Question, SetReader
from probe.predictors.set_model import PARTS, SetModel, moved_to, standardised, without_labels
from probe.predictors.set_training import MIN_MERGES, DeepSets, SetTargets, fit_set_model
from probe.vectors import Standardisation
from tests.planted_bank import Truth
from tests.probe.predictors.small import evidence_of

Planted = tuple[Records, Truth]
MEMBERS = ("code-0", "instruction-1", "math-2", "safety-3", "science-0")


def question(planted: Planted, members: Sequence[str], signals: str = "all signals") -> Question:
    """Return a question whose pairs are forecast as planted."""
    records, truth = planted
    size = len(members)
    retention, margin = np.full((2, size, size), np.nan)
    for i, victim in enumerate(members):
        for j, other in enumerate(members):
            if i != j:
                retention[i, j] = truth.retention(victim, other, "ta")
                margin[i, j] = 4 * truth.force[victim] - 2
    recipe = MergeRecipe("ta", weights=tuple(1.0 + truth.force[name] for name in members))
    evidence = evidence_of(records, sorted(members))
    return Question(Merge(tuple(members), recipe), evidence, SIGNALS[signals], PairMatrix(retention, margin))


@pytest.fixture(scope="module")
def reader(planted: Planted) -> SetReader:
    return SetReader(schema_of(planted[0]))


@pytest.fixture(scope="module")
def network(planted: Planted, reader: SetReader) -> DeepSets:
    """A network of which no weight is zero."""
    inputs = reader([question(planted, MEMBERS)])
    torch.manual_seed(3)
    network = DeepSets(*(getattr(inputs, part).shape[-1] for part in PARTS))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def model(planted: Planted, reader: SetReader, network: DeepSets) -> SetModel:
    inputs = reader([question(planted, MEMBERS[:3]), question(planted, MEMBERS)])
    flat = {part: getattr(inputs, part).reshape(-1, getattr(inputs, part).shape[-1]) for part in PARTS}
    standards = {part: Standardisation.fit(rows) for part, rows in flat.items()}
    return SetModel(reader, standards, {name: value.numpy() for name, value in network.state_dict().items()})


def test_numpy_gives_what_torch_gives(planted: Planted, reader: SetReader, network: DeepSets, model: SetModel) -> None:
    inputs = reader([question(planted, MEMBERS[:3]), question(planted, MEMBERS, "weights only")])
    adapters, pairs, merge = (
        torch.from_numpy(standardised(model.standards[part], getattr(inputs, part))) for part in PARTS
    )
    with torch.no_grad():
        wanted = network(
            adapters, torch.from_numpy(inputs.has_adapter), pairs, torch.from_numpy(inputs.has_pair), merge
        ).numpy()
    assert np.abs(wanted).min() > 1e-3
    np.testing.assert_allclose(model.corrections(inputs), wanted, rtol=1e-12)


def test_it_has_ten_thousand_parameters_at_most(network: DeepSets) -> None:
    assert sum(weight.numel() for weight in network.parameters()) <= 10_000


def test_no_order_of_members_changes_a_forecast(planted: Planted, model: SetModel) -> None:
    orders = [*permutations(MEMBERS[:4])][::5]
    found = model([question(planted, order) for order in orders])
    np.testing.assert_allclose(found.macro, found.macro[0], rtol=1e-9)
    np.testing.assert_allclose(found.worst, found.worst[0], rtol=1e-9)
    np.testing.assert_allclose(found.margin, found.margin[0], rtol=1e-9)
    kept = [dict(zip(order, own, strict=True)) for order, own in zip(orders, found.retention, strict=True)]
    for own in kept:
        assert own == pytest.approx(kept[0])


def test_sets_asked_together_are_forecast_as_alone(planted: Planted, model: SetModel) -> None:
    asked = [question(planted, MEMBERS[:3]), question(planted, MEMBERS), question(planted, MEMBERS[1:])]
    together = model(asked)
    for place, one in enumerate(asked):
        assert model([one]).macro[0] == pytest.approx(together.macro[place], rel=1e-12)
    assert model([]).retention == ()


def test_without_labels_the_weakest_pair_decides(planted: Planted, reader: SetReader) -> None:
    asked = question(planted, MEMBERS)
    found = without_labels(reader)([asked])
    members = np.nanmin(asked.pairs.retention, axis=1)
    np.testing.assert_allclose(found.retention[0], members)
    assert found.macro[0] == pytest.approx(members.mean())
    assert found.worst[0] == pytest.approx(np.nanmin(asked.pairs.retention))


@given(
    st.lists(st.floats(-1, 2), min_size=2, max_size=6),
    st.floats(-1, 2),
    st.floats(0, 1),
)
def test_members_are_moved_to_the_mean_and_the_worst(members: list[float], worst: float, above: float) -> None:
    own = np.array(members)
    moved = moved_to(own, worst + above, worst)
    assert moved.min() == pytest.approx(worst, abs=1e-9)
    if own.mean() - own.min() > 1e-9 and above > 0:
        assert moved.mean() == pytest.approx(worst + above, abs=1e-9)
        assert (np.diff(moved[np.argsort(own)]) >= -1e-9).all()


def test_a_worst_above_the_mean_is_not_believed() -> None:
    np.testing.assert_array_equal(moved_to(np.array([0.2, 0.8]), 0.5, 0.9), [0.5, 0.5])


@pytest.fixture(scope="module")
def asked(planted: Planted) -> list[Question]:
    names = sorted(planted[1].place)
    draw = np.random.default_rng(5)
    return [question(planted, sorted(draw.choice(names, size=3 + k % 3, replace=False))) for k in range(60)]


def targets_of(asked: Sequence[Question], shift: float) -> SetTargets:
    members = [np.nanmin(one.pairs.retention, axis=1) - shift for one in asked]
    return SetTargets(
        macro=np.array([own.mean() for own in members]),
        worst=np.array([own.min() for own in members]),
        is_safe=np.array([float(own.min() > 0.5) for own in members]),
        weight=np.ones(len(asked)),
    )


def test_training_learns_what_sets_lose_beyond_their_pairs(reader: SetReader, asked: list[Question]) -> None:
    targets = targets_of(asked, 0.2)
    plain, fitted = without_labels(reader)(asked), fit_set_model(reader(asked), targets, reader, 0.1, seed=0)(asked)
    assert np.abs(plain.worst - targets.worst).mean() == pytest.approx(0.2)
    assert np.abs(fitted.worst - targets.worst).mean() < 0.1
    assert np.abs(fitted.macro - targets.macro).mean() < 0.1


def test_training_is_told_by_its_seed_and_leaves_others_alone(reader: SetReader, asked: list[Question]) -> None:
    targets = targets_of(asked, 0.2)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, again, other = (fit_set_model(reader(asked), targets, reader, 0.1, seed)(asked).macro for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_few_merges_teach_no_correction(reader: SetReader, asked: list[Question]) -> None:
    few = asked[: MIN_MERGES - 1]
    assert fit_set_model(reader(few), targets_of(few, 0.2), reader, 0.1, seed=0).layers == {}
