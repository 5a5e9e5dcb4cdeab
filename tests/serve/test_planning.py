"""The whole loop with forecasts: what is measured first, what is shown, and how it goes on without a predictor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from probe.predictors.forecast import SchemaMismatch
from probe.records import MergeProbeError
from router.records import Verdict
from serve.signals.subjects import Work
from tests.probe.forecasting.seen import predictor_folder
from tests.serve.bank import TinyBank, eventually
from tests.serve.planted_predictor import PlantedPredictor
from tests.serve.test_admin import series
from tests.serve.test_rollback import placements

NAMES = "abcd"


@dataclass
class Forecasting:
    """A bank of four whose predictor is planted; adapters that are to lose lose what is predicted."""

    bank: TinyBank
    predictor: PlantedPredictor

    @property
    def merges(self) -> list[Verdict]:
        return [verdict for verdict in self.bank.registry.verdicts() if len(verdict.recipe.members) > 1]

    def tried(self) -> set[frozenset[str]]:
        names = {adapter.revision: adapter.name for adapter in self.bank.registry.adapters()}
        return {frozenset(names[member] for member in verdict.recipe.members) for verdict in self.merges}


@pytest.fixture
def forecasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forecasting]:
    kept = {"c": 0.3, "d": 0.3}
    banks: list[TinyBank] = []

    def name_of(revision: str) -> str:
        return next(adapter.name for adapter in banks[0].registry.adapters() if adapter.revision == revision)

    predictor = PlantedPredictor(name_of, kept)
    monkeypatch.setattr("serve.planning.load_predictor", lambda setting: predictor)
    banks.append(TinyBank(tmp_path, kept=dict(kept), overrides={"policy__predictor": "default"}))
    for name in NAMES:
        banks[0].register(name)
    yield Forecasting(banks[0], predictor)
    banks[0].registry.close()


def test_only_what_is_predicted_to_pass_is_measured_and_it_is_served(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    bank.bank.signals.round()
    bank.round()
    assert placements(bank) == {"a": "merged", "b": "merged", "c": "separate", "d": "separate"}
    assert forecasting.tried() == {frozenset("ab")}
    bank.round()
    assert forecasting.tried() == {frozenset("ab")}, "nothing else is worth a measurement"


def test_forecast_bound_and_measurement_are_shown_beside_each_other(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    bank.bank.signals.round()
    bank.round()
    client = bank.client()
    shown = client.get("/bank/adapters/a").json()
    assert (shown["predicted_retention"], shown["lower_bound"], shown["measured_retention"]) == (1.0, 0.98, 1.0)
    assert "predicted" in shown["reason"]
    found = series(client)
    assert found["mergeprobe_predicted_retention_ratio"] == {("a",): 1.0, ("b",): 1.0}
    assert found["mergeprobe_predicted_retention_lower_bound_ratio"] == {("a",): 0.98, ("b",): 0.98}
    assert found["mergeprobe_plan_predicted_retention_ratio"] == {("macro",): 1.0, ("worst",): 1.0}
    assert found["mergeprobe_prediction_error_ratio_count"] == {(): 2}
    assert found["mergeprobe_bound_violations_total"] == {(): 0}
    digest = forecasting.bank.bank.describe_planning().split()[2].rstrip(",")
    (label,) = forecasting.merges
    assert [(member.predicted_retention, member.predicted_lower_bound) for member in label.members] == [(1.0, 0.98)] * 2
    assert label.safe_probability == 0.9
    assert label.predictor is not None
    assert label.predictor.startswith(digest)


def test_a_forecast_that_was_too_high_is_a_violation_and_a_label(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    bank.kept["b"] = 0.5
    bank.bank.signals.round()
    bank.round()
    assert placements(bank)["b"] == "separate"
    found = series(bank.client())
    assert found["mergeprobe_bound_violations_total"][()] >= 1
    assert found["mergeprobe_prediction_error_ratio_bucket"][("-0.3",)] >= 1
    assert "mergeprobe_predicted_retention_ratio" not in found, "a separate adapter is not predicted"


def test_until_signals_are_there_adapters_are_served_and_no_merge_is_tried(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    bank.round()
    assert set(placements(bank).values()) == {"separate"}
    assert forecasting.merges == []
    assert {route.reason for route in bank.registry.table().routes} == {
        f"{name}: separate, nothing is predicted of a merge with it so far" for name in NAMES
    }


def test_every_plan_asks_for_signals_and_news_of_them_for_a_plan(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    with bank.ticking():
        bank.bank.signals.start()
        eventually(lambda: placements(bank) == {"a": "merged", "b": "merged", "c": "separate", "d": "separate"})
    bank.bank.signals.stop()
    bank.bank.signals._thread.join(10)


def test_an_infinite_bound_is_shown_as_none_and_the_group_explored(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    forecasting.predictor.margin = math.inf
    bank.bank.signals.round()
    bank.round()
    assert placements(bank)["a"] == "merged"
    client = bank.client()
    assert client.get("/bank/adapters/a").json()["lower_bound"] is None
    assert client.get("/bank/plans").status_code == 200
    assert "mergeprobe_predicted_retention_lower_bound_ratio" not in series(client)


def test_one_adapter_that_cannot_be_measured_stays_alone_and_the_others_are_forecast(forecasting: Forecasting) -> None:
    bank = forecasting.bank
    bad = bank.registry.adapter("d").revision

    def fail(work: Work) -> None:
        if any(bad in (piece.subject.revision, *(one.revision for one in piece.others)) for piece in work.pieces):
            raise MergeProbeError("planted: no such tensor")
        bank.measure(work)

    bank.bank.signals._measure = fail
    bank.bank.signals.round()
    bank.round()
    assert forecasting.tried() <= {frozenset("ab")}
    assert placements(bank)["d"] == "separate"
    assert bank.bank.describe_planning().endswith("some signals could not be measured: planted: no such tensor")


def test_a_bank_whose_weights_cannot_be_compared_is_planned_without_forecasts(forecasting: Forecasting) -> None:
    bank = forecasting.bank

    def fail(work: Work) -> None:
        raise MergeProbeError("planted: no such tensor")

    bank.bank.signals._measure = fail
    bank.bank.signals.round()
    for _ in range(3):
        bank.round()
    assert placements(bank)["a"] == "merged", "by weights alone, and measured"
    assert len(forecasting.tried()) > 1
    assert bank.bank.describe_planning() == "by weights only: planted: no such tensor"


def test_health_says_which_predictor_plans(forecasting: Forecasting) -> None:
    told = forecasting.bank.client().get("/bank/health").json()["planned"]
    assert told.startswith("by predictor ")
    assert told.endswith("fitted on 9 adapters of the bank planted, of tiny")


def test_a_predictor_of_another_schema_leaves_the_bank_planned_by_weights_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(setting: str) -> None:
        raise SchemaMismatch("planted: it reads feature schema 7, this version measures 1")

    monkeypatch.setattr("serve.planning.load_predictor", load)
    bank = TinyBank(tmp_path, overrides={"policy__predictor": "default"})
    assert "planted: it reads feature schema 7" in caplog.text
    assert bank.client().get("/bank/health").json()["planned"].startswith("by weights only: planted: it reads")
    for name in "ab":
        bank.register(name)
    bank.round()
    assert placements(bank) == {"a": "merged", "b": "merged"}
    bank.registry.close()


def test_a_folder_without_a_predictor_is_told(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__predictor": str(tmp_path / "absent")})
    assert "There is no predictor in" in bank.bank.describe_planning()
    bank.registry.close()


def test_signals_are_measured_only_where_a_forecast_or_an_operator_reads_them(tmp_path: Path) -> None:
    nothing = {"policy__predictor": "none"}
    reading = {**nothing, "policy__recipes": (("regmean", "none"),)}
    forecasting = {"policy__predictor": str(predictor_folder(tmp_path / "predictor"))}
    for number, (overrides, wanted) in enumerate(((nothing, False), (reading, True), (forecasting, True))):
        bank = TinyBank(tmp_path / str(number), overrides=overrides)
        assert bank.bank.wants_signals is wanted
        bank.registry.close()
