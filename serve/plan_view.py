"""How a plan is shown to people: its decisions, and what it would change against what is being served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from router.bank_state import Settings
from router.plan_diff import PlanDiff, plan_diff, slots_warning
from router.records import Plan, PlanState
from router.registry import Registry
from serve.modules import separate_name
from serve.traffic import Traffic

PLAN, DIFF = TypeAdapter(Plan), TypeAdapter(PlanDiff)
AHEAD = (PlanState.PROPOSED, PlanState.WAITING, PlanState.APPROVED)
"""Plans that are still to be carried out: only their difference from what is served means anything."""
NOT_BUILT = "to be merged anew"
"""Stands for a merged module whose files are gone."""


@dataclass(frozen=True, slots=True)
class PlanView:
    """Shows plans of one bank."""

    registry: Registry
    settings: Settings
    traffic: Traffic

    def __call__(self, plan: Plan) -> dict[str, Any]:
        """Return a plan's fields as JSON values, and how it stands today.

        That is, as `diff`, what it would change, and, as `score_weights`, what each adapter weighs in its score; both
        are None once it is done.
        """
        shown: dict[str, Any] = json.loads(PLAN.dump_json(plan))
        if plan.state not in AHEAD:
            return shown | {"diff": None, "score_weights": None}
        weights = self.traffic.weights(self.registry.adapters())
        return shown | {"diff": json.loads(DIFF.dump_json(self._diff(plan))), "score_weights": weights}

    def warning(self) -> str:
        """Say if the bank needs more modules than the engine mixes in a batch; "" if not."""
        return slots_warning(len(self.registry.table().modules), self.settings)

    def _diff(self, plan: Plan) -> PlanDiff:
        built = {decision.recipe.key for decision in plan.decisions if decision.recipe}
        modules = {key: self.registry.module_of(key) for key in built}
        names = {key: module.name if module else NOT_BUILT for key, module in modules.items()}
        asked = {
            decision.adapter: names[decision.recipe.key] if decision.recipe else separate_name(decision.revision)
            for decision in plan.decisions
        }
        table, verdicts = self.registry.table(), self.registry.verdicts()
        return plan_diff(table, plan.decisions, plan.trials, asked, verdicts, self.settings)
