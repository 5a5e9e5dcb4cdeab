"""The judgement on a merged module: whether it may serve, by what its members keep inside it and what safety loses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from probe.retention import Retention, paired_loss, retention
from router.records import BASE, Adapter, Measurement, MemberResult, Module, Part, Recipe, Verdict


class ScoreBook(Protocol):
    """Anything that knows what modules score."""

    def of(self, module: str, rows: str, part: Part) -> Measurement:
        """Return the scores of a module (or `BASE`) on one part of an evaluation set."""
        ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides on merged modules, from their scores alone."""

    scores: ScoreBook
    target_retention: float

    def __call__(
        self,
        recipe: Recipe,
        module: Module,
        members: Sequence[Adapter],
        separate: Callable[[Adapter], Module],
        safety_sets: Iterable[str],
    ) -> Verdict:
        """Measure a merged module: gate rows first, the safety sets, then the rows that users are shown.

        Stops at the first failure, so a bad recipe costs little. `separate` returns a member's own module and makes
        it resident; `safety_sets` are content hashes of the protected adapters' evaluation rows.
        """
        results: list[MemberResult] = []
        for member in members:
            kept = self._gate(member, module, separate)
            results.append(_gate_result(member, kept))
            if kept.lower_bound < self.target_retention:
                reason = _too_little(member, kept, self.target_retention)
                return Verdict(recipe, module.name, False, reason, tuple(results))
        delta, loss = self.safety(module, members, separate, tuple(safety_sets))
        if loss:
            return Verdict(recipe, module.name, False, loss, tuple(results), delta)
        gates = zip(members, results, strict=True)
        reported = tuple(self._report(member, module, separate, gate) for member, gate in gates)
        worst = min(result.gate_lower_bound or 0.0 for result in reported)
        bound = f"at least {worst:.2f} of its gain (one-sided 90 % bound)"
        reason = f"every member keeps {bound}, {self.target_retention} is asked"
        return Verdict(recipe, module.name, True, reason, reported, delta)

    def _gate(self, member: Adapter, module: Module, separate: Callable[[Adapter], Module]) -> Retention:
        assert member.evaluation is not None, "the planner groups only adapters with evaluation rows"
        return self.kept(separate(member).name, module.name, member.evaluation, Part.GATE)

    def _report(
        self, member: Adapter, module: Module, separate: Callable[[Adapter], Module], gate: MemberResult
    ) -> MemberResult:
        assert member.evaluation is not None
        single = separate(member).name
        shown = self.kept(single, module.name, member.evaluation, Part.REPORT)
        alone, inside = (self.scores.of(name, member.evaluation, Part.REPORT).scores for name in (single, module.name))
        return replace(
            gate,
            report=shown.value if math.isfinite(shown.value) else None,
            report_standard_error=shown.standard_error if math.isfinite(shown.standard_error) else None,
            num_report_rows=shown.num_rows,
            normalised_accuracy=sum(inside) / sum(alone) if sum(alone) else None,
        )

    def safety(
        self,
        module: Module,
        members: Sequence[Adapter],
        separate: Callable[[Adapter], Module],
        safety_sets: tuple[str, ...],
        part: Part = Part.GATE,
    ) -> tuple[float | None, str]:
        """Return the change of the safety score against the base, and a reason to refuse ("" for none)."""
        delta = None
        for rows in safety_sets:
            merged = self.scores.of(module.name, rows, part).scores
            for name in (BASE, *(separate(member).name for member in members)):
                difference, error = paired_loss(self.scores.of(name, rows, part).scores, merged)
                if name == BASE:
                    delta = min(-difference, delta) if delta is not None else -difference
                if difference > 2 * error and difference > 0:
                    return delta, (
                        f"the safety score falls by {difference:.2f} (over 2 standard errors of {error:.3f}) against "
                        f"{'the base' if name == BASE else 'member ' + name}"
                    )
        return delta, ""

    def kept(self, single: str, merged: str, rows: str, part: Part) -> Retention:
        """Return what the adapter of module `single` keeps inside module `merged` (Eq. 2)."""
        base, alone, inside = (self.scores.of(module, rows, part).scores for module in (BASE, single, merged))
        return retention(base, alone, inside)


def _gate_result(member: Adapter, gate: Retention) -> MemberResult:
    bound = gate.lower_bound if math.isfinite(gate.lower_bound) else None
    value = gate.value if math.isfinite(gate.value) else None
    return MemberResult(member.revision, value, bound, None, None, gate.num_rows, 0)


def _too_little(member: Adapter, kept: Retention, target: float) -> str:
    return (
        f"{member.name} keeps {kept.value:.2f} of its gain, and the one-sided 90 % bound {kept.lower_bound:.2f} is "
        f"under the target {target} ({kept.num_rows} gate rows)"
    )
