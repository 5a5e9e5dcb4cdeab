"""What clients ask for decides what adapters weigh: from the replicas' counts to the plan, on the fake engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.demand import NUM_STEPS
from tests.fakes import FakeReplica
from tests.serve.bank import TinyBank
from tests.serve.test_rollback import placements

HOUR = timedelta(hours=1)
WEIGHED = {"policy__weights": "traffic", "policy__lambda_cost": 0.2}
MERGED, SEPARATE = {"a": "merged", "b": "merged"}, {"a": "separate", "b": "separate"}


@dataclass
class Busy:
    """A bank in which b keeps 0.9 beside a, so that their merge is worth it while b weighs under 2 of 5."""

    bank: TinyBank
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.bank.bank.show_plan.traffic._clock = lambda: self.now

    def tick(self) -> None:
        self.bank.round()

    def ask(self, replica: int = 0, **requests: int) -> None:
        """Let a replica answer requests, and the hour end in which it did."""
        self.bank.engine.replicas[replica].answered.update(requests)
        self.tick()
        self.now += HOUR
        self.tick()

    @property
    def pair(self) -> dict[str, str]:
        return {name: placement for name, placement in placements(self.bank).items() if name in "ab"}

    @property
    def weights(self) -> dict[str, float]:
        """What a preview shows."""
        shown = self.bank.client().post("/bank/replan", json={"apply": False}).json()["score_weights"]
        assert sum(shown.values()) == pytest.approx(len(shown))
        return shown


def busy_bank(folder: Path, **overrides: object) -> Busy:
    bank = TinyBank(folder, kept={"b": 0.9}, overrides=WEIGHED | overrides)
    for name in "abcde":
        bank.register(name, **({} if name in "ab" else {"evaluation": None}))
    busy = Busy(bank)
    busy.tick()
    return busy


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Busy]:
    busy = busy_bank(tmp_path)
    yield busy
    busy.bank.registry.close()


def test_a_busy_adapters_group_is_taken_apart_and_merged_again_when_it_is_busy_no_more(busy: Busy) -> None:
    assert busy.pair == MERGED
    assert busy.weights == dict.fromkeys("abcde", 1.0)
    busy.ask(b=10_000)
    assert busy.pair == SEPARATE
    assert busy.weights["b"] > 4.9
    busy.now += NUM_STEPS * HOUR
    busy.ask(c=10_000)
    assert busy.pair == MERGED
    assert busy.weights["b"] < 0.1


def test_requests_of_all_replicas_count_and_what_is_measured_does_not(busy: Busy) -> None:
    assert busy.bank.registry.verdicts(), "gate and report rows were asked"
    assert busy.weights == dict.fromkeys("abcde", 1.0)
    busy.ask(replica=0, c=4000)
    busy.ask(replica=1, d=4000)
    assert busy.weights["c"] == busy.weights["d"] == pytest.approx(2.5, abs=0.1)


def test_a_little_traffic_and_a_small_change_leave_the_plan_as_it_is(busy: Busy) -> None:
    epoch = busy.bank.registry.epoch()
    for requests in ({"b": 5}, {"a": 400, "b": 300, "c": 300}, {"b": 50}, {"c": 50}):
        busy.ask(**requests)
        assert busy.bank.registry.epoch() == epoch


def test_an_hour_counts_only_once_it_is_over_so_that_plans_agree_meanwhile(busy: Busy) -> None:
    before = busy.weights
    busy.bank.engine.replicas[0].answered["b"] += 10_000
    busy.tick()
    assert busy.weights == before
    assert busy.pair == MERGED


def test_a_replica_that_restarts_takes_nothing_away_and_counts_from_zero(busy: Busy) -> None:
    busy.ask(b=1000, c=500)
    before = busy.weights
    answered = busy.bank.engine.replicas[0].answered
    answered.clear()
    busy.ask()
    assert busy.weights == before
    busy.ask(c=500)
    assert busy.weights["b"] == pytest.approx(busy.weights["c"])


def test_a_look_that_no_replica_answers_changes_nothing(busy: Busy) -> None:
    busy.ask(b=1000)
    before, replicas = busy.weights, busy.bank.engine.replicas[:]
    busy.bank.engine.replicas.clear()
    busy.bank.bank.show_plan.traffic.look()
    busy.bank.engine.replicas += [*replicas, FakeReplica()]
    busy.now += HOUR
    busy.bank.bank.show_plan.traffic.look()
    assert busy.weights == before


def test_a_controller_that_restarts_remembers(tmp_path: Path, busy: Busy) -> None:
    busy.ask(b=10_000)
    again = Busy(TinyBank(tmp_path, overrides=WEIGHED), busy.now)
    assert again.weights == busy.weights
    again.bank.engine.replicas[1].answered["b"] = 7
    again.bank.bank.show_plan.traffic.look()
    assert again.bank.bank.show_plan.traffic.of(["b"]) == busy.bank.bank.show_plan.traffic.of(["b"])
    again.bank.registry.close()


@pytest.mark.parametrize("damaged", [b"", b'{"steps": 3}', b"\xff"])
def test_a_damaged_window_begins_anew_and_is_told(
    tmp_path: Path, busy: Busy, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    busy.ask(b=10_000)
    busy.bank.config.traffic_file.write_bytes(damaged)
    again = Busy(TinyBank(tmp_path, overrides=WEIGHED), busy.now)
    assert again.weights == dict.fromkeys("abcde", 1.0)
    assert "traffic.json is damaged" in caplog.text
    again.bank.registry.close()


def test_a_window_of_another_length_begins_anew(tmp_path: Path, busy: Busy) -> None:
    busy.ask(b=10_000)
    again = Busy(TinyBank(tmp_path, overrides=WEIGHED | {"policy__traffic_window_seconds": 3600}), busy.now)
    assert again.weights == dict.fromkeys("abcde", 1.0)
    again.bank.registry.close()


def test_by_default_all_weigh_the_same_whatever_the_traffic(tmp_path: Path) -> None:
    busy = busy_bank(tmp_path, policy__weights=None)
    assert busy.bank.config.policy.weights == "uniform"
    busy.ask(b=10_000)
    assert busy.pair == MERGED
    assert busy.weights == dict.fromkeys("abcde", 1.0)
    again = Busy(TinyBank(tmp_path, overrides=WEIGHED), busy.now)
    assert again.weights["b"] > 4.9, "it was counted all the same, for a bank that changes its mind"
    for one in (busy, again):
        one.bank.registry.close()


def test_a_plan_that_is_done_has_no_weights(busy: Busy) -> None:
    asked = busy.bank.bank.clockwork.ask()
    busy.bank.bank.clockwork._answer([asked.id])
    assert busy.bank.client().get(f"/bank/plans/{asked.id}").json()["score_weights"] is None
