"""Mode `approve`: what a plan may do at once, and what waits for a person. Mode `auto` lets everything through."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from router.consent import Change, Consent
from router.history import History
from router.records import Adapter, Decision, Placement, Plan, PlanState, RoutingTable
from router.registry import Registry
from router.rollback import decisions_back_to
from router.vetoes import Veto, circumstances, group_circumstances, vetoed_groups
from serve.config import PolicyConfig

APPROVED = (PlanState.APPROVED,)
OPEN = (PlanState.WAITING, *APPROVED)
SUPERSEDED = "The bank or the policy has changed since, so this is no longer what the controller would do."
MODE = {"mode"}
"""Of the policy: the part that no veto depends on."""


@dataclass(frozen=True, slots=True)
class Approval:
    """Stands between deciding and rolling out."""

    registry: Registry
    history: History
    policy: PolicyConfig

    @property
    def settings(self) -> str:
        """The settings under which a veto holds, as text."""
        return self.policy.model_dump_json(exclude=MODE, exclude_defaults=True)

    def vetoed(self, adapters: Collection[Adapter]) -> frozenset[frozenset[str]]:
        """Return the groups of revisions that people keep out of today's bank."""
        return vetoed_groups(self.history.vetoes(), self.settings, adapters)

    def restored(self, plan: Plan, decisions: Collection[Decision]) -> tuple[Decision, ...]:
        """Return the decisions of a plan that rolls another one back, as far as today's bank and vetoes let it.

        Parameters
        ----------
        decisions
            Today's.
        """
        assert plan.rolls_back is not None
        before, _ = self.history.brought(plan.rolls_back) or (RoutingTable(), RoutingTable())
        vetoes = (veto for veto in self.history.vetoes() if veto.plan_id != plan.rolls_back)
        vetoed = vetoed_groups(vetoes, self.settings, self.registry.adapters())
        holding = {
            verdict.recipe.key
            for verdict in self.registry.verdicts()
            if verdict.passed and not any(group <= set(verdict.recipe.members) for group in vetoed)
        }
        modules = {module.name: module for module in self.registry.modules()}
        return decisions_back_to(before, decisions, modules, holding)

    def granted(self, plan: Plan) -> Plan:
        """Return a plan with the decisions that may be rolled out now."""
        if self.policy.mode == "auto":
            return plan
        return replace(plan, decisions=self.consent().granted(plan.decisions))

    def consent(self) -> Consent:
        """Return what decisions are compared with."""
        table = self.registry.table()
        modules = [module for module in self.registry.modules() if module.name in table.modules]
        recipes = {module.name: module.recipe for module in modules if module.recipe}
        failed = {verdict.recipe.key for verdict in self.registry.verdicts() if not verdict.passed}
        vetoed = self.vetoed(self.registry.adapters())
        broken = (
            name
            for name, recipe in recipes.items()
            if recipe.key in failed or any(group <= set(recipe.members) for group in vetoed)
        )
        return Consent(table, recipes, frozenset(broken))

    def is_current(self, plan: Plan, decisions: Collection[Decision]) -> bool:
        """Say whether a waiting plan would still do what today's decisions would."""
        consent = self.consent()
        return consent.pending(plan.decisions) == consent.pending(decisions)

    def conclude(self, plan: Plan) -> Plan:
        """Return the plan at the end of its tick: applied, or waiting for a person with what it may not do alone.

        A change waits once: while a plan waits for it, later ones point there. Waiting plans whose change is no longer
        what the controller would do are stale from now on.
        """
        consent = self.consent()
        pending = consent.pending(plan.decisions) if self.policy.mode == "approve" else frozenset()
        same = self._same(consent, pending)
        if not pending:
            return replace(plan, state=PlanState.APPLIED)
        kept = replace(plan, state=PlanState.APPLIED, decisions=consent.granted(plan.decisions))
        if same is not None:
            return replace(kept, message=waits_as(same))
        if veto := self._rejection(pending):
            told = f"{veto.by} rejected its change as {veto.plan_id}, so it is not proposed again"
            return replace(kept, message=f"{told} until the bank or the policy changes.")
        return replace(plan, state=PlanState.WAITING, epoch=None, message=_question(plan.id, pending))

    def _same(self, consent: Consent, pending: frozenset[Change]) -> Plan | None:
        """Return the open plan of the same change, and make every other waiting plan stale."""
        same = None
        for plan in self.registry.plans(states=OPEN):
            if pending and same is None and consent.pending(plan.decisions) == pending:
                same = plan
            elif plan.state is PlanState.WAITING:
                self.history.retire(plan, SUPERSEDED)
        return same

    def rejections(self, plan: Plan, by: str, reason: str) -> list[Veto]:
        """Return what rejecting a waiting plan keeps out: its very change, and every group that it would merge."""
        pending = self.consent().pending(plan.decisions)
        merging = {change[0] for change in pending if change[2] == Placement.MERGED}
        groups = {
            frozenset(decision.recipe.members)
            for decision in plan.decisions
            if decision.recipe and decision.adapter in merging
        }
        change = Veto((), circumstances(self.settings, _facts(pending)), plan.id, by, reason)
        return [change, *self.group_vetoes(groups, plan.id, by, reason)]

    def group_vetoes(self, groups: Iterable[Collection[str]], plan_id: str, by: str, reason: str) -> list[Veto]:
        """Return vetoes on groups of revisions."""
        evaluations = {adapter.revision: adapter.evaluation for adapter in self.registry.adapters()}
        ordered = sorted(tuple(sorted(group)) for group in groups)
        return [
            Veto(members, group_circumstances(self.settings, members, evaluations), plan_id, by, reason)
            for members in ordered
        ]

    def _rejection(self, pending: frozenset[Change]) -> Veto | None:
        asked = circumstances(self.settings, _facts(pending))
        return next((veto for veto in self.history.vetoes() if veto.circumstances == asked), None)


def waits_as(plan: Plan) -> str:
    """Tell where a change waits that another plan would make too."""
    return f"What it would change waits for a person as {plan.id}."


def carried_out(plan: Plan) -> str:
    """Tell of an approved plan, once it is done, why it was."""
    what = f"It went back behind {plan.rolls_back}" if plan.rolls_back else "A person approved it"
    return f"{what}; the events say who wanted that, and why."


def _facts(pending: frozenset[Change]) -> list[list[str | None]]:
    return sorted((list(change) for change in pending), key=str)


def _question(plan_id: str, pending: frozenset[Change]) -> str:
    names = ", ".join(sorted({change[0] for change in pending}))
    return f"It would change what serves {names}: mergeprobe approve {plan_id}, or mergeprobe reject {plan_id}."
