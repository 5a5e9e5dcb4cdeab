"""A controller without an engine: plan, serve what passed, measure what the plan wants to know, tick by tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from router.bank_state import BankState, Candidate
from router.planner import Planner
from router.records import Decision, Module, Recipe, RoutingTable, Trial, Verdict
from router.table import next_table


@dataclass(frozen=True, slots=True)
class Step:
    """What one tick decided, asked for and measured; `verdicts` are of the trials, one each."""

    decisions: tuple[Decision, ...]
    trials: tuple[Trial, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def groups(self) -> tuple[Recipe, ...]:
        """Recipes of the modules that are served merged."""
        return tuple(dict.fromkeys(one.recipe for one in self.decisions if one.recipe))


@dataclass(slots=True)
class Replay:
    """A planner at work on one bank.

    Attributes
    ----------
    measure
        Recipe -> its verdict; each recipe of a trial waits for a tick of its own, as in a controller.
    verdicts, table
        What was measured so far, and what is served.
    """

    planner: Planner
    candidates: Sequence[Candidate]
    measure: Callable[[Recipe], Verdict]
    verdicts: list[Verdict] = field(default_factory=list)
    table: RoutingTable = field(default_factory=RoutingTable)

    def tick(self, traffic: Mapping[str, float] | None = None) -> Step:
        """Plan by what is known, serve it, and measure what the plan asks for; `traffic` as in `BankState`."""
        known = tuple(self.verdicts)
        state = BankState(tuple(self.candidates), verdicts=known, current=self.table, traffic=traffic or {})
        decisions, trials = self.planner.plan(state)
        self.table = self._served(decisions)
        verdicts = tuple(self.measure(trial.recipes[0]) for trial in trials)
        self.verdicts.extend(verdicts)
        return Step(decisions, trials, verdicts)

    def settle(self) -> Step:
        """Tick until the planner asks for nothing more: it never measures a recipe twice, so it ends."""
        while (step := self.tick()).trials:
            pass
        return step

    def _served(self, decisions: Sequence[Decision]) -> RoutingTable:
        built = {verdict.recipe: verdict.module for verdict in self.verdicts}
        modules = {
            one.adapter: Module(built[one.recipe] if one.recipe else f"separate-{one.revision}", (one.revision,), 0, 0)
            for one in decisions
        }
        return next_table(self.table, decisions, modules, self.verdicts, modules)
