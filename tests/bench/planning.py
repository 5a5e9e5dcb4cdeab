"""How good and how fast plans are: the gap to the best partition, and the time for 10 to 10,000 adapters.

Run it with `python -m tests.bench.planning`; `make bench` does. Banks and forecasts are simulated, unless the gap is
asked for measured records (`--records FOLDER`): then a forecast is what was measured of that very merge, and unknown
where nothing was. Gaps are shares of the best plan's score.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from probe.bank.record_files import read_records
from probe.bank.records import Label, Records
from probe.operators import OPERATORS
from router.bank_state import BankState, Candidate, Settings
from router.forecast_planner import ForecastPlanner
from router.forecasts import ConflictPart, Forecasts, GroupForecast
from router.group_search import GroupSearch
from router.ledger import read_ledger
from router.packing import WeightedSet, upper_bound
from router.partition import best_partition, gain_of
from router.policy import Policy
from router.prospects import Depth, Prospects
from router.records import Adapter, Recipe
from router.screening import screen
from router.simulate import CLEAR_GAIN
from router.simulated_bank import BankModel, SimulatedBank
from router.simulated_forecasts import SimulatedForecasts
from tests.bench.machine import describe_machine

OPEN = Settings(protected_domains=())
MODELS = {
    "default": BankModel(),
    "harsh": BankModel(conflict=0.6, spread=1.0),
    "mild": BankModel(conflict=0.1),
    "apart": BankModel(within=0.3, overlap=0.1),
    "sharp": BankModel(hidden=0.01, forecast_error=0.02),
}
SMALL = (6, 8, 10, 12, 14)
SIZES = (10, 100, 1000, 10_000)
REPEATS = 3


class MeasuredForecasts:
    """Labels as forecasts: what a merge was measured to keep, with the bound of its rows; None where it was not.

    Revisions are names of the records.
    """

    def __init__(self, records: Records) -> None:
        self._labels: dict[tuple[tuple[str, ...], str, str], dict[str, Label]] = {}
        self._partners: dict[str, set[str]] = {}
        for label in records.labels:
            if label.action == "merge" and label.is_sound:
                key = label.members, label.operator, label.norm or OPERATORS[label.operator].norm
                self._labels.setdefault(key, {})[label.adapter] = label
                for member in label.members:
                    self._partners.setdefault(member, set()).update(set(label.members) - {member})

    def settings(self) -> Settings:
        """Return settings by which everything that is labelled may be planned."""
        return replace(OPEN, recipes=tuple(sorted({(operator, norm) for _, operator, norm in self._labels})))

    def version(self, revision: str) -> str:
        return ""

    def neighbours(self, revision: str) -> Sequence[str]:
        return sorted(self._partners.get(revision, ()))

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        return [self._forecast(recipe) for recipe in recipes]

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        return ()

    def _forecast(self, recipe: Recipe) -> GroupForecast | None:
        found = self._labels.get((recipe.members, recipe.operator, recipe.norm), {})
        if set(found) != set(recipe.members) or len(set(recipe.weights)) > 1:
            return None
        kept = {name: label.retention.value for name, label in found.items()}
        return GroupForecast(kept, {name: label.retention.lower_bound for name, label in found.items()}, 1.0)


def bank_state(adapters: Sequence[Adapter]) -> BankState:
    """Return a bank of which everything is known but merges."""
    return BankState(tuple(Candidate(adapter, CLEAR_GAIN) for adapter in adapters))


def searched(adapters: Sequence[Adapter], forecasts: Forecasts, settings: Settings) -> GroupSearch:
    """Return a search of a bank that has looked at nothing yet."""
    bank = bank_state(adapters)
    screened = screen(bank, settings)
    policy = Policy(settings, forecasts, {adapter.revision: adapter.rank for adapter in adapters})
    prospects = Prospects(policy, read_ledger(bank, screened, settings), screened.weights, settings)
    return GroupSearch(prospects, frozenset(screened.mergeable), forecasts, settings.max_group_size)


def gap(adapters: Sequence[Adapter], forecasts: Forecasts, settings: Settings) -> float:
    """Return the share of the best plan's score that the search of large banks misses on a small one."""
    every, near = (searched(adapters, forecasts, settings) for _ in range(2))
    every.look_at_all()
    near.look_near()
    near.look_at_rest(best_partition(near.prospects.sure))
    found = best_partition(near.prospects.sure)
    near.prospects.look((group.members for group in found), Depth.EVERY_RECIPE)
    refined = [near.prospects.seen[group.members].best or group for group in found]
    alone = len(adapters) * (1 - settings.lambda_cost)
    best = alone + gain_of(best_partition(every.prospects.sure))
    return (best - alone - gain_of(refined)) / best


def simulated_gaps(num_banks: int) -> Iterator[tuple[str, int, list[float]]]:
    """Yield the gaps on simulated banks: model, adapters, gaps."""
    for name, model in MODELS.items():
        for size in SMALL:
            gaps = []
            for seed in range(num_banks):
                bank = SimulatedBank(size, model, seed)
                gaps.append(gap(bank.adapters, SimulatedForecasts(bank, OPEN, seed=seed), OPEN))
            yield f"simulated, {name}", size, gaps


def measured_gaps(records: Records, num_banks: int) -> Iterator[tuple[str, int, list[float]]]:
    """Yield the gaps on random parts of a measured bank."""
    forecasts, luck = MeasuredForecasts(records), random.Random(0)
    plain = [one for one in records.adapters if one.method == "sft" and not one.is_protected]
    adapters = [Adapter(one.name, one.name, "records", one.rank, 0, one.domain, evaluation="rows") for one in plain]
    for size in (size for size in SMALL if size <= len(adapters)):
        parts = [luck.sample(adapters, size) for _ in range(num_banks)]
        yield "measured", size, [gap(part, forecasts, forecasts.settings()) for part in parts]


def print_gaps(gaps: Iterator[tuple[str, int, list[float]]], console: Console) -> None:
    """Print a row for each kind of bank."""
    table = Table("bank", "adapters", "banks", "median gap", "worst gap", title="aim: median 0, worst <= 1 %")
    for name, size, found in gaps:
        row = f"{statistics.median(found):.3%}", f"{max(found):.3%}"
        table.add_row(name, str(size), str(len(found)), *row)
    console.print(table)


class TimedForecasts:
    """Forecasts that note how many were asked for, and how long they took."""

    def __init__(self, forecasts: SimulatedForecasts) -> None:
        self._forecasts, self.count, self.seconds = forecasts, 0, 0.0
        self.version, self.neighbours = forecasts.version, forecasts.neighbours

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast | None]:
        began = time.perf_counter()
        found = self._forecasts.groups(recipes)
        self.seconds += time.perf_counter() - began
        self.count += len(recipes)
        return found

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        began = time.perf_counter()
        parts = self._forecasts.conflicts(members)
        self.seconds += time.perf_counter() - began
        return parts


def seconds_of(planner: ForecastPlanner, bank: BankState) -> tuple[float, float]:
    """Return the wall and the CPU seconds of one plan."""
    began = time.perf_counter(), time.process_time()
    planner.plan(bank)
    return time.perf_counter() - began[0], time.process_time() - began[1]


def timings(size: int, settings: Settings) -> Mapping[str, float]:
    """Return what the plans of one simulated bank cost: the first, one more, and one after an adapter was added."""
    simulated = SimulatedBank(size + 1, BankModel(), 0)
    forecasts = TimedForecasts(SimulatedForecasts(simulated, settings))
    began = time.perf_counter()
    forecasts.neighbours(simulated.adapters[0].revision)
    neighbours = time.perf_counter() - began
    bank, planner = bank_state(simulated.adapters[:size]), ForecastPlanner(settings, forecasts)
    first, first_cpu = seconds_of(planner, bank)
    asked, forecasting = forecasts.count, forecasts.seconds
    again, again_cpu = seconds_of(planner, bank)
    added, _ = seconds_of(planner, bank_state(simulated.adapters))
    return {
        "neighbours": neighbours,
        "first": first,
        "first_cpu": first_cpu,
        "forecasting": forecasting,
        "asked": asked,
        "again": again,
        "again_cpu": again_cpu,
        "added": added,
        "asked_for_added": forecasts.count - asked,
        "bound": bound_of(planner, bank),
    }


def bound_of(planner: ForecastPlanner, bank: BankState) -> float:
    """Return the share of the relaxation's bound that the partition misses, of the score over the groups looked at."""
    search = searched([c.adapter for c in bank.candidates], planner.forecasts, planner.settings)
    search.look_around()
    sure = search.prospects.sure
    alone = len(bank.candidates) * (1 - planner.settings.lambda_cost)
    bound = alone + upper_bound([WeightedSet(one.members, one.gain) for one in sure if one.gain > 0])
    return (bound - alone - gain_of(best_partition(sure))) / bound


def print_timings(sizes: Sequence[int], console: Console) -> None:
    """Print the growth over the size of the bank."""
    headings = ("adapters", "first plan s", "CPU s", "of it forecasts s", "forecasts", "again s", "CPU s")
    more = ("one added s", "forecasts", "below bound", "neighbours s")
    table = Table(*headings, *more, title="simulated forecasts; medians; aim: 1,000 adapters in 2 s")
    for size in sizes:
        runs = [timings(size, Settings()) for _ in range(REPEATS if size <= 1000 else 1)]
        cost = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        seconds = [f"{cost[key]:.2f}" for key in ("first", "first_cpu", "forecasting")]
        later = [f"{cost[key]:.2f}" for key in ("again", "again_cpu", "added")]
        tail = f"{cost['asked_for_added']:.0f}", f"{cost['bound']:.2%}", f"{cost['neighbours']:.2f}"
        table.add_row(f"{size:,}", *seconds, f"{cost['asked']:.0f}", *later, *tail)
    console.print(table)


def main() -> None:
    """Print gaps and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="folder of measured records, for gaps on them")
    parser.add_argument("--banks", type=int, default=20, help="banks of each kind")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="adapters, for the times")
    asked = parser.parse_args()
    console = Console(width=150)
    console.print(describe_machine())
    print_timings(asked.sizes, console)
    print_gaps(simulated_gaps(asked.banks), console)
    if asked.records:
        print_gaps(measured_gaps(read_records(asked.records), asked.banks), console)


if __name__ == "__main__":
    main()
