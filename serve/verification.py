"""Verification: whether a loaded module may serve, and what its members keep inside it.

Everything is measured on the engine that will serve it. The offline reference guards against a module that loads and
does nothing, or does something else (vLLM answers 200 to both).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from probe.records import MergeProbeError
from probe.retention import Retention, paired_loss, retention
from probe.rows import Answer, Row, read_rows, split_rows
from probe.scoring import grade_all
from router.engine import Engine
from router.records import BASE, Adapter, Measurement, MemberResult, Module, Part, Recipe, Verdict
from router.registry import Registry
from router.store import Store
from serve.config import VerifyConfig

Reference = Callable[[Sequence[Row], Path], tuple[Answer, ...]]
"""Offline answers of a PEFT folder to forced rows."""

SAME_NATS = 1e-5
"""Two mean log-likelihoods closer than this are the same computation: float32 noise is about 1e-6."""

PROBES = tuple(
    Row(prompt=f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", answer=answer, scorer="forced")
    for question, answer in (
        ("What is the capital of France?", "The capital of France is Paris."),
        ("Add 17 and 25.", "42"),
        ("Name a noble gas.", "Helium is a noble gas."),
        ("Write a Python expression for the square of x.", "x ** 2"),
        ("Say hello in three words.", "Hello, dear friend!"),
        ("How do I boil an egg?", "Put the egg into boiling water for seven minutes."),
    )
)
"""Prompts for the check after loading; they need no evaluation rows, so every module gets the check."""


class ModuleRefused(MergeProbeError):
    """A module loaded, and must not serve: it equals the base, or differs from the offline reference."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured scores, taken from the registry where they stand already: modules and row files are immutable."""

    engine: Engine
    registry: Registry
    store: Store

    def of(self, module: str, rows: str, part: Part) -> Measurement:
        """Return the scores of a resident module (or `BASE`) on one part of an evaluation set."""
        known = self.registry.measurement(module, rows, part)
        if known is None:
            known = self.measure(module, rows, part)
            self.registry.put_measurement(known)
        return known

    def measure(self, module: str, rows: str, part: Part) -> Measurement:
        """Ask the engine, whatever stands in the registry."""
        gate, report = split_rows(read_rows(self.store.rows_path(rows)))
        chosen = gate if part is Part.GATE else report
        answers = self.engine.measure(None if module == BASE else module, chosen)
        outcomes = grade_all(chosen, answers)
        return Measurement(
            module, rows, part, tuple(o.score for o in outcomes), tuple(o.log_likelihood for o in outcomes)
        )

    def retention(self, single: str, merged: str, rows: str, part: Part) -> Retention:
        """Return what the adapter of module `single` keeps inside module `merged` (Eq. 2)."""
        base, alone, inside = (self.of(module, rows, part).scores for module in (BASE, single, merged))
        return retention(base, alone, inside)


@dataclass(frozen=True, slots=True)
class FreshScores(Scores):
    """Scores measured anew, each once; they stand in the registry when `keep` says so, all together."""

    _measured: dict[tuple[str, str, Part], Measurement] = field(default_factory=dict)

    def of(self, module: str, rows: str, part: Part) -> Measurement:
        """Return the scores of a resident module (or `BASE`), measured since this was made."""
        key = module, rows, part
        if key not in self._measured:
            self._measured[key] = self.measure(*key)
        return self._measured[key]

    def keep(self) -> None:
        """Replace what the registry knew."""
        for measured in self._measured.values():
            self.registry.put_measurement(measured)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Decides on a resident module: `check` after every load, `judge` for a merged one."""

    scores: Scores
    settings: VerifyConfig
    target_retention: float
    reference: Reference | None

    def afresh(self) -> tuple[Verifier, FreshScores]:
        """Return a verifier that measures everything anew, and its scores."""
        scores = FreshScores(self.scores.engine, self.scores.registry, self.scores.store)
        return replace(self, scores=scores), scores

    def check(self, module: Module) -> None:
        """Refuse a module that does nothing, or that computes something else than PEFT does.

        Raises
        ------
        ModuleRefused
        """
        rows = PROBES[: self.settings.num_reference_rows]
        engine = self.scores.engine
        served, base = engine.measure(module.name, rows), engine.measure(None, rows)
        if _largest_gap(served, base) < SAME_NATS:
            raise ModuleRefused(f"module {module.name} answers exactly as the base does: the engine applied no update")
        if self.reference is None:
            return
        gap = _largest_gap(served, self.reference(rows, self.scores.store.module_path(module.name)))
        if gap > self.settings.reference_tolerance_nats:
            raise ModuleRefused(
                f"module {module.name} differs from offline PEFT by {gap:.3f} nats per answer token, at most "
                f"{self.settings.reference_tolerance_nats} is expected: the engine applies another update"
            )

    def judge(
        self,
        recipe: Recipe,
        module: Module,
        members: Sequence[Adapter],
        separate: Callable[[Adapter], Module],
        safety_sets: Iterable[str],
    ) -> Verdict:
        """Measure a resident merged module: gate rows first, the safety sets, then the rows that users are shown.

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
        delta, loss = self._safety(module, members, separate, tuple(safety_sets))
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
        return self.scores.retention(separate(member).name, module.name, member.evaluation, Part.GATE)

    def _report(
        self, member: Adapter, module: Module, separate: Callable[[Adapter], Module], gate: MemberResult
    ) -> MemberResult:
        assert member.evaluation is not None
        single = separate(member).name
        shown = self.scores.retention(single, module.name, member.evaluation, Part.REPORT)
        alone, inside = (self.scores.of(name, member.evaluation, Part.REPORT).scores for name in (single, module.name))
        return replace(
            gate,
            report=shown.value if math.isfinite(shown.value) else None,
            report_standard_error=shown.standard_error if math.isfinite(shown.standard_error) else None,
            num_report_rows=shown.num_rows,
            normalised_accuracy=sum(inside) / sum(alone) if sum(alone) else None,
        )

    def _safety(
        self,
        module: Module,
        members: Sequence[Adapter],
        separate: Callable[[Adapter], Module],
        safety_sets: tuple[str, ...],
    ) -> tuple[float | None, str]:
        """Return the change of the safety score against the base, and a reason to refuse ("" for none)."""
        delta = None
        for rows in safety_sets:
            merged = self.scores.of(module.name, rows, Part.GATE).scores
            for name in (BASE, *(separate(member).name for member in members)):
                difference, error = paired_loss(self.scores.of(name, rows, Part.GATE).scores, merged)
                if name == BASE:
                    delta = min(-difference, delta) if delta is not None else -difference
                if difference > 2 * error and difference > 0:
                    return delta, (
                        f"the safety score falls by {difference:.2f} (over 2 standard errors of {error:.3f}) against "
                        f"{'the base' if name == BASE else 'member ' + name}"
                    )
        return delta, ""


def _largest_gap(answers: Sequence[Answer], others: Sequence[Answer]) -> float:
    pairs = zip(answers, others, strict=True)
    return max(abs((a.log_likelihood or 0.0) - (b.log_likelihood or 0.0)) for a, b in pairs)


def _gate_result(member: Adapter, gate: Retention) -> MemberResult:
    bound = gate.lower_bound if math.isfinite(gate.lower_bound) else None
    value = gate.value if math.isfinite(gate.value) else None
    return MemberResult(member.revision, value, bound, None, None, gate.num_rows, 0)


def _too_little(member: Adapter, kept: Retention, target: float) -> str:
    return (
        f"{member.name} keeps {kept.value:.2f} of its gain, and the one-sided 90 % bound {kept.lower_bound:.2f} is "
        f"under the target {target} ({kept.num_rows} gate rows)"
    )
