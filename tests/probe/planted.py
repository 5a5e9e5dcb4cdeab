"""Records with numbers that are known beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from probe.bank.records import AdapterRecord, Facts, FeatureRow, Label, Records
from probe.operators import OPERATORS
from probe.vectors import SCHEMA_VERSION

NUM_ROWS = 100
FACTS = Facts(
    bank="planted",
    feature_schema=SCHEMA_VERSION,
    base_model="tiny",
    hardware="a test",
    first_date="2026-01-02",
    last_date="2026-01-03",
    commands=("mergeprobe bank label planted",),
    versions={"python": "3"},
)


def scores(num_right: int, num_rows: int = NUM_ROWS) -> tuple[float, ...]:
    """Return scores of which the first `num_right` are 1."""
    return tuple(float(row < num_right) for row in range(num_rows))


def adapter(name: str, domain: str, mix: str = "mix", method: str = "sft") -> AdapterRecord:
    return AdapterRecord(
        name=name,
        domain=domain,
        mix=mix,
        method=method,
        group=None,
        rank=8,
        modules="attention",
        alpha=16,
        learning_rate=1e-3,
        num_rows=100,
        num_tokens=60_000,
        num_steps=100,
        replay=0.25,
        a_seed=1,
        data_seed=2,
        is_protected=domain == "safety",
        revision=f"revision of {name}",
        minutes=1.5,
        command="mergeprobe bank build",
        device="cpu",
        precision="float32",
        versions={"torch": "2", "peft": "0"},
        row_set=f"{domain} {mix}",
    )


def label(
    members: tuple[str, ...],
    victim: str,
    base: tuple[float, ...],
    single: tuple[float, ...],
    merged: tuple[float, ...],
    operator: str = "ta",
) -> Label:
    is_single = len(members) == 1
    return Label(
        members=members,
        adapter=victim,
        action="single" if is_single else "merge",
        operator="none" if is_single else operator,
        weights=None,
        pruned=None,
        norm=None if is_single else "none",
        hyper_parameters={} if is_single else dict(OPERATORS[operator].defaults()),
        seed=0,
        rank=32,
        base_scores=base,
        single_scores=single,
        merged_scores=merged,
        base_log_likelihoods=tuple(score - 3.0 for score in base),
        single_log_likelihoods=tuple(score - 2.0 for score in single),
        merged_log_likelihoods=tuple(score - 2.5 for score in merged),
        kept_energy=1.0,
        norm_ratio=1.0,
        seconds=0.5,
    )


def records_of(
    adapters: Iterable[AdapterRecord], labels: Iterable[Label], features: Iterable[FeatureRow] = ()
) -> Records:
    return Records(FACTS, tuple(adapters), tuple(labels), tuple(features))
