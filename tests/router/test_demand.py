"""The window of requests: counted from what replicas say, whatever restarts; and what it does to plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bank_state import BankState, Settings
from router.demand import NUM_STEPS, PRIOR_REQUESTS, Demand
from router.engine import ReplicaView
from router.forecast_planner import ForecastPlanner
from router.planner import WeightsOnlyPlanner
from router.score import traffic_weights
from tests.router.banks import bank_of, groups, table, verdict
from tests.router.planted import PlantedForecasts, everyone

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = "ab"


def view(replica: str, **answered: int) -> ReplicaView:
    return ReplicaView(replica, 1, frozenset(), {}, answered)


def counted(demand: Demand) -> dict[str, float]:
    """Return the requests in the window, without those that every adapter is credited with."""
    return {name: requests - PRIOR_REQUESTS for name, requests in demand.traffic(NAMES).items()}


@pytest.fixture
def demand() -> Demand:
    """Return an hourly demand that has seen one replica."""
    return Demand(3600.0).after([view("r0", a=5)], START)


def test_the_first_look_counts_nothing_since_nobody_knows_how_old_its_counts_are(demand: Demand) -> None:
    assert counted(demand.after([view("r0", a=5)], START + HOUR)) == {"a": 0, "b": 0}


def test_requests_count_once_their_step_is_over_and_until_the_window_has_passed(demand: Demand) -> None:
    demand = demand.after([view("r0", a=8, b=1)], START + HOUR / 2)
    assert counted(demand) == {"a": 0, "b": 0}
    demand = demand.after([view("r0", a=9, b=1)], START + HOUR)
    assert counted(demand) == {"a": 3, "b": 1}
    demand = demand.after([view("r0", a=9, b=1)], START + NUM_STEPS * HOUR)
    assert counted(demand) == {"a": 4, "b": 1}, "the first step is the oldest of a full window"
    assert counted(demand.after([view("r0", a=9, b=1)], START + (NUM_STEPS + 1) * HOUR)) == {"a": 1, "b": 0}


def test_a_new_replica_counts_whole_and_a_restarted_one_from_zero(demand: Demand) -> None:
    demand = demand.after([view("r0", a=7), view("r1", a=4, b=4)], START)
    demand = demand.after([view("r0", a=1), view("r1", a=4, b=6)], START)
    assert counted(demand.after([], START + HOUR)) == {"a": 2 + 4 + 1, "b": 6}


def test_a_replica_that_does_not_answer_for_a_while_is_not_counted_twice(demand: Demand) -> None:
    demand = demand.after([], START + HOUR).after([view("r0", a=6)], START + 2 * HOUR)
    assert counted(demand.after([], START + 3 * HOUR)) == {"a": 1, "b": 0}


def test_after_a_window_without_a_look_it_begins_anew(demand: Demand) -> None:
    later = START + (NUM_STEPS + 1) * HOUR
    assert counted(demand.after([view("r0", a=1000)], later).after([], later + HOUR)) == {"a": 0, "b": 0}


def test_the_names_asked_for_are_answered_and_no_others(demand: Demand) -> None:
    assert demand.traffic(["new"]) == {"new": PRIOR_REQUESTS}
    assert demand.traffic([]) == {}


@dataclass
class Replicas:
    """Three replicas, the demand read off them, and a list of all that they answered."""

    demand: Demand = field(default_factory=lambda: Demand(3600.0))
    now: datetime = START
    views: list[ReplicaView] = field(default_factory=lambda: [view(name) for name in ("r0", "r1", "r2")])
    unseen: list[str] = field(default_factory=list)
    requests: list[tuple[datetime, str]] = field(default_factory=list)

    def answer(self, place: int, name: str, count: int) -> None:
        answered = Counter(self.views[place].answered)
        self.views[place] = replace(self.views[place], answered=answered + Counter({name: count}))
        self.unseen += [name] * count

    def restart(self, place: int, name: str) -> None:
        """Look, since what a replica answers between a look and its end is lost; then replace it, and look again."""
        self.look(0)
        self.views[place] = view(f"{name}{place}" if name else self.views[place].replica)
        self.look(0)

    def look(self, hours: float) -> None:
        self.now += hours * HOUR
        self.demand = self.demand.after(self.views, self.now)
        self.requests += [(self.now, name) for name in self.unseen]
        self.unseen = []


places = st.integers(0, 2)
events = st.one_of(
    st.tuples(st.just("answer"), places, st.sampled_from(NAMES), st.integers(1, 50)),
    st.tuples(st.just("restart"), places, st.sampled_from(["", "new", "other"])),
    st.tuples(st.just("look"), st.sampled_from([0.1, 0.4, 1.0, 3.0, 11.0])),
)


@given(st.lists(events, max_size=60))
def test_the_window_is_what_a_list_of_all_requests_says(happened: list[tuple[str, *tuple[Any, ...]]]) -> None:
    """Replicas restart under new names, as Ray's do, or under their own; looks come at any times."""
    replicas = Replicas()
    replicas.look(0)
    for kind, *facts in happened:
        getattr(replicas, kind)(*facts)
    this_hour = replicas.now.replace(minute=0, second=0, microsecond=0)
    window = (name for at, name in replicas.requests if this_hour - NUM_STEPS * HOUR <= at < this_hour)
    inside = Counter(window)
    assert counted(replicas.demand) == {name: inside[name] for name in NAMES}


def test_an_adapter_that_nobody_asks_for_weighs_next_to_nothing_and_is_no_special_case() -> None:
    bank = bank_of("abcd")
    busy = {"a": 30_000.0, "b": 10_000.0}
    credited = {name: PRIOR_REQUESTS + busy.get(name, 0.0) for name in "abcd"}
    weights = traffic_weights(bank.candidates, credited)
    assert 0 < weights["r-d"] < 0.01
    assert weights["r-a"] == pytest.approx(3 * weights["r-b"], rel=0.01)
    assert sum(weights.values()) == pytest.approx(4)


def test_few_requests_hardly_move_the_weights() -> None:
    weights = traffic_weights(bank_of("abcd").candidates, {"a": PRIOR_REQUESTS + 1.0} | dict.fromkeys("bcd", 25.0))
    assert weights["r-a"] == pytest.approx(1.0, abs=0.05)


# What it does to plans

BARELY = verdict("ab", 0.88, 0.86)
"""Both keep 0.88: merged while they weigh under 4.2 together, of the six of the bank."""
SPLIT = 0.5 / 0.12


def serve(bank: BankState, traffic: Mapping[str, float], settings: Settings | None = None) -> BankState:
    """Plan by a traffic, and return the bank as it is served then."""
    bank = replace(bank, traffic=traffic)
    decisions, _ = WeightsOnlyPlanner(settings or Settings()).plan(bank)
    return replace(bank, current=table(decisions, bank.verdicts))


def served(bank: BankState) -> bool:
    """Say whether the pair is served merged."""
    return any(route.module == BARELY.module for route in bank.current.routes)


def with_share(share: float, total: float = 10_000.0) -> dict[str, float]:
    """Return traffic of which a and b have a share together."""
    return dict.fromkeys("ab", share * total / 2) | dict.fromkeys("cdef", (1 - share) * total / 4)


def test_what_many_feel_is_taken_apart_and_merged_again_when_they_are_gone() -> None:
    bank = serve(bank_of("abcdef", verdicts=(BARELY,)), with_share(1 / 3))
    assert served(bank)
    bank = serve(bank, with_share(0.9))
    assert not served(bank)
    assert served(serve(bank, with_share(0.1)))


@pytest.mark.parametrize("before", [0.4, 0.9], ids=["merged", "separate"])
@pytest.mark.parametrize("share", [0.95, 1.05])
def test_small_changes_of_traffic_leave_the_plan_as_it_is(before: float, share: float) -> None:
    """Even where the pair is just worth its loss."""
    bank = serve(bank_of("abcdef", verdicts=(BARELY,)), with_share(before))
    assert served(serve(bank, with_share(share * SPLIT / 6))) is served(bank)
    without = Settings(hysteresis=0.0)
    assert served(serve(bank, with_share(share * SPLIT / 6), without)) is (share < 1), "hysteresis is what keeps it"


def test_the_noise_of_counting_does_not_flap_the_plan() -> None:
    """Few requests come at random, and the pair is just worth its loss: 8 weeks."""
    daily = np.array([111.0, 111.0, 5.0, 5.0, 5.0, 5.0])
    weights = daily + PRIOR_REQUESTS
    assert 6 * weights[:2].sum() / weights.sum() == pytest.approx(SPLIT, rel=0.01)
    assert num_changes(daily, Settings(hysteresis=0.0)) > 20
    assert num_changes(daily, Settings()) == 0


def num_changes(daily: np.ndarray, settings: Settings) -> int:
    """Count how often the pair is merged or taken apart once it is served."""
    rng, demand, total = np.random.default_rng(0), Demand(3600.0).after([view("r0")], START), Counter[str]()
    bank, was, count = bank_of("abcdef", verdicts=(BARELY,)), None, -1
    for hour in range(8 * 7 * 24):
        total.update(dict(zip("abcdef", rng.poisson(daily / 24).tolist(), strict=True)))
        demand = demand.after([view("r0", **total)], START + hour * HOUR)
        bank = serve(bank, demand.traffic("abcdef"), settings)
        if served(bank) is not was:
            was, count = served(bank), count + 1
    return count


@pytest.mark.parametrize("kept", [0.84, 0.5])
def test_no_weight_lowers_the_floor(kept: float) -> None:
    """An adapter that nobody asks for is merged at 0.86 and never below 0.85."""
    idle = {"a": 0.0, "b": 0.0, "c": 1e6}
    passing = bank_of("abc", verdicts=(verdict("ab", 0.88, 0.86),), traffic=idle)
    assert groups(WeightsOnlyPlanner(Settings()).plan(passing)[0]) == {frozenset("ab")}
    failing = bank_of("abc", verdicts=(verdict("ab", kept, kept - 0.01),), traffic=idle)
    assert groups(WeightsOnlyPlanner(Settings()).plan(failing)[0]) == set()
    planner = ForecastPlanner(Settings(), PlantedForecasts(everyone(kept)))
    decisions, trials = planner.plan(bank_of("abc", traffic=idle))
    assert groups(decisions) == set()
    assert bool(trials) is (kept > 0.8), "what may pass is measured, whatever it weighs"


@pytest.mark.parametrize("operators", [("ties", "mean"), ("mean", "ties")])
def test_among_merges_that_pass_an_idle_adapters_retention_still_decides(operators: tuple[str, str]) -> None:
    """Without the credited requests both recipes would score the same."""
    better, worse = verdict("ab", 0.97, 0.95, operators[0]), verdict("ab", 0.88, 0.86, operators[1])
    traffic = dict.fromkeys("ab", float(PRIOR_REQUESTS)) | {"c": 1e6}
    (a, _, _), _ = WeightsOnlyPlanner(Settings()).plan(bank_of("abc", verdicts=(worse, better), traffic=traffic))
    assert a.recipe == better.recipe
