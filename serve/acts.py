"""What a person may do to a plan: approve, reject, roll back. Each is in the audit log with who, when and why."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from router.history import Act, History
from router.records import Decision, Plan, PlanState, RoutingTable
from router.registry import Registry, RegistryError
from router.rollback import left_out
from serve.approval import SUPERSEDED, Approval

UNDOABLE = (PlanState.APPLIED, PlanState.FAILED)
"""A failed plan may have committed its epoch before it failed."""


class StalePlan(RegistryError):
    """The bank has changed since the plan was made, so nobody should decide about it any more."""


@dataclass(frozen=True, slots=True)
class Acts:
    """Answers to people; the controller's next tick carries out what they said.

    Attributes
    ----------
    decide
        Fills a plan with today's decisions, without acting.
    new_plan
        Makes an empty plan in a state.
    wake
        Tells the controller that there is work.
    """

    registry: Registry
    history: History
    approval: Approval
    decide: Callable[[Plan], Plan]
    new_plan: Callable[[PlanState], Plan]
    wake: Callable[[], None]

    def approve(self, plan_id: str, by: str, reason: str) -> Plan:
        """Let a waiting plan be carried out.

        Raises
        ------
        UnknownPlan, PlanNotOpen
        StalePlan
            It is no longer what the controller would do; it is stale from now on.
        """
        plan = self.registry.plan(plan_id)
        if plan.state is PlanState.WAITING and not self.approval.is_current(plan, self.decide(plan).decisions):
            self.history.retire(plan, SUPERSEDED)
            raise StalePlan(f"{plan_id} cannot be approved. {SUPERSEDED} See the next one: mergeprobe plans")
        approved = replace(plan, state=PlanState.APPROVED, message=f"{by} approved it; the next tick carries it out.")
        return self._record(Act("approved", approved, (PlanState.WAITING,), by, reason))

    def reject(self, plan_id: str, by: str, reason: str) -> Plan:
        """Refuse a waiting plan, and keep its groups out until the bank or the policy changes.

        Raises
        ------
        UnknownPlan, PlanNotOpen
        """
        plan = self.registry.plan(plan_id)
        vetoes = self.approval.rejections(plan, by, reason)
        rejected = replace(
            plan, state=PlanState.REJECTED, message=f"{by} rejected it.", finished_at=self.registry.now()
        )
        return self._record(Act("rejected", rejected, (PlanState.WAITING,), by, reason, vetoes))

    def rollback(self, plan_id: str, by: str, reason: str) -> Plan:
        """Go back to what was served before a plan, in a new epoch, and keep out the groups that it brought.

        Rolling back a rollback lifts what that one keeps out.

        Returns
        -------
        Plan
            The new plan, approved, which goes back.

        Raises
        ------
        UnknownPlan, PlanNotOpen
        StalePlan
            The plan changed nothing, or nothing of it is being served any more.
        """
        plan, brought = self.registry.plan(plan_id), self.history.brought(plan_id)
        if plan.state in UNDOABLE and brought is None:
            raise StalePlan(f"{plan_id} changed nothing in the routing table, so there is nothing to go back behind.")
        before, after = brought or (RoutingTable(), RoutingTable())
        back = replace(self.new_plan(PlanState.APPROVED), rolls_back=plan_id)
        decisions = self.approval.restored(back, self.decide(back).decisions)
        back = replace(back, decisions=decisions, message=f"{by} wants to go back behind {plan_id}.")
        vetoes = self.approval.group_vetoes(self._groups(after) - self._groups(before), back.id, by, reason)
        if plan.state in UNDOABLE and not vetoes and self._is_served(back.decisions):
            raise StalePlan(f"What was served before {plan_id} is being served already; see: mergeprobe list")
        rolled_back = replace(plan, state=PlanState.ROLLED_BACK)
        notes = left_out(before, self.registry.adapters(), back.decisions)
        self._record(Act("rolled_back", rolled_back, UNDOABLE, by, reason, vetoes, back, notes))
        return back

    def _record(self, act: Act) -> Plan:
        self.history.record(act)
        self.wake()
        return act.plan

    def _groups(self, table: RoutingTable) -> set[frozenset[str]]:
        modules = (module for module in self.registry.modules() if module.name in table.modules)
        return {frozenset(module.members) for module in modules if module.recipe}

    def _is_served(self, decisions: Collection[Decision]) -> bool:
        return not self.approval.consent().changes(decisions)
