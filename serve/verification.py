"""Verification: whether a loaded module may serve, and what its members keep inside it.

Everything is measured on the engine that will serve it. The offline reference guards against a module that loads and
does nothing, or does something else (vLLM answers 200 to both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from probe.records import MergeProbeError
from probe.rows import Answer, Row, read_rows, split_rows
from probe.scoring import grade_all
from router.engine import Engine
from router.records import BASE, Measurement, Module, Part
from router.registry import Registry
from router.store import Store
from serve.config import VerifyConfig
from serve.judging import Judge

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

    @property
    def judge(self) -> Judge:
        """Who decides on resident merged modules, by the same scores."""
        return Judge(self.scores, self.target_retention)


def _largest_gap(answers: Sequence[Answer], others: Sequence[Answer]) -> float:
    pairs = zip(answers, others, strict=True)
    return max(abs((a.log_likelihood or 0.0) - (b.log_likelihood or 0.0)) for a, b in pairs)
