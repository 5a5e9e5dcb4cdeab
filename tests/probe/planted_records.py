"""Records whose answers are known: every number that the report must find is planted here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from probe.bank.records import AdapterRecord, Facts, FeatureRow, Label, Records
from probe.vectors import SCHEMA_VERSION

DOMAINS = ("code", "instruction", "math", "safety", "science")
OPERATOR_RET = {"pico": 0.9, "ta": 0.75, "mean": 0.6, "ties": 0.4}
"""Mean Ret of a pair without conflict: the planted ranking."""
SAFETY_HARM = 0.2
"""What a safety adapter loses more than its partner."""
CONFLICT = 0.35
"""What the planted signal, which runs over 0..1, takes off Ret."""
BAND_RECOVERY = {"lower": 0.0, "middle": 0.0, "upper": 0.25}
PRUNED_COST = 0.1
PREFERENCE_GAIN = 0.2
NORM_GROWTH = 3.0
NUM_ROWS = 60
BASE, SINGLE = 6, 54
"""Rows that the base, and an adapter alone, answers: a gain of 0.8."""
SIGNAL, NULL_SIGNAL = "overlap_in/all/mean", "activation_overlap/all/mean"
WEAK = "weak"
"""An adapter that gained nothing: its labels are excluded."""
NUM_WEAK_LABELS = 2


def planted_records(adapters_per_domain: int = 3) -> Records:
    """Return a bank with everything that the report can show."""
    adapters = [_adapter(f"{domain}-{k}", domain) for domain in DOMAINS for k in range(adapters_per_domain)]
    names = [adapter.name for adapter in adapters]
    conflict = _symmetric(names, np.random.default_rng(1))
    labels = [*_pairs(names, conflict), *_sets(names), *_pruned(names, conflict), *_reweighted(names, conflict)]
    labels += [*_singles(names), *_preferences(), *_controls(names), *_weak(names), *_variants()]
    adapters += [*_extra_adapters(), _adapter(WEAK, "math")]
    return Records(
        facts=FACTS,
        adapters=tuple(adapters),
        labels=tuple(labels),
        adapter_features=tuple(_adapter_features(names)),
        pair_features=tuple(_pair_features(names, conflict)),
    )


FACTS = Facts(
    bank="planted",
    feature_schema=SCHEMA_VERSION,
    base_model="a model that does not exist",
    hardware="none",
    first_date="2026-11-01",
    last_date="2026-11-02",
    commands=("mergeprobe bank label",),
    versions={"torch": "2.13.0"},
    pilot=({"name": "base", "measured": 0.1, "wanted": "<= 0.60", "passed": True},),
)


def _adapter(
    name: str, domain: str, method: str = "sft", group: str | None = None, a_seed: int | None = None
) -> AdapterRecord:
    return AdapterRecord(
        name=name,
        domain=domain,
        mix="all",
        method=method,
        group=group,
        rank=8,
        modules="attention",
        alpha=16,
        learning_rate=1e-3,
        num_rows=100,
        num_tokens=1000,
        num_steps=50,
        replay=0.0,
        a_seed=sum(name.encode()) * 1000 + len(name) if a_seed is None else a_seed,
        data_seed=0,
        is_protected=domain == "safety",
        revision=name,
        minutes=1.0,
        command="",
        device="cpu",
        precision="float32",
        versions={},
    )


def label_of(members: tuple[str, ...], adapter: str, ret: float, operator: str = "ta", **changes: object) -> Label:
    """Return a label of which Ret is `ret`, to within a row."""
    kept = BASE + round((SINGLE - BASE) * ret)
    label = Label(
        members=members,
        adapter=adapter,
        action="merge",
        operator=operator,
        weights=None,
        pruned=None,
        norm=None,
        hyper_parameters={},
        seed=0,
        rank=32,
        base_scores=_first(BASE),
        single_scores=_first(SINGLE),
        merged_scores=_first(kept),
        base_log_likelihoods=(-2.0,) * NUM_ROWS,
        single_log_likelihoods=(-1.0,) * NUM_ROWS,
        merged_log_likelihoods=(-2.0 + ret,) * NUM_ROWS,
        kept_energy=0.95,
        norm_ratio=1.2,
        seconds=1.0,
    )
    return replace(label, **changes)  # type: ignore[arg-type]


def _first(count: int) -> tuple[float, ...]:
    count = min(max(count, 0), NUM_ROWS)
    return (1.0,) * count + (0.0,) * (NUM_ROWS - count)


def _domain(name: str) -> str:
    return name.split("-")[0]


def _symmetric(names: list[str], rng: np.random.Generator) -> dict[frozenset[str], float]:
    return {frozenset(pair): float(rng.uniform()) for pair in combinations(names, 2)}


def ret_of(adapter: str, other: str, operator: str, conflict: dict[frozenset[str], float]) -> float:
    """Return the planted Ret of an adapter beside another."""
    is_harmed = _domain(adapter) == "safety" and _domain(other) != "safety"
    return OPERATOR_RET[operator] - CONFLICT * (conflict[frozenset((adapter, other))] - 0.5) - SAFETY_HARM * is_harmed


def _pairs(names: list[str], conflict: dict[frozenset[str], float]) -> Iterator[Label]:
    noise = np.random.default_rng(2)
    for operator in OPERATOR_RET:
        for pair in combinations(names, 2):
            for adapter, other in (pair, pair[::-1]):
                yield label_of(
                    pair, adapter, ret_of(adapter, other, operator, conflict) + noise.normal(0, 0.05), operator
                )


def _sets(names: list[str]) -> Iterator[Label]:
    noise = np.random.default_rng(3)
    drawn = [tuple(name for name in names if name.endswith(f"-{k}")) for k in range(3)]
    drawn += [one[:3] for one in drawn]
    for members in filter(None, drawn):
        for operator, ret in {**OPERATOR_RET, "fisher_core": 0.3, "lego": 0.35, "osrm_post": 0.5}.items():
            for adapter in members:
                harm = SAFETY_HARM if _domain(adapter) == "safety" else 0.0
                yield label_of(members, adapter, ret - 0.2 - harm + noise.normal(0, 0.03), operator)


def _pruned(names: list[str], conflict: dict[frozenset[str], float]) -> Iterator[Label]:
    noise = np.random.default_rng(4)
    for pair in list(combinations(names, 2))[::4]:
        for pruned in pair:
            for band, recovery in BAND_RECOVERY.items():
                for adapter in pair:
                    other = pair[1 - pair.index(adapter)]
                    change = -PRUNED_COST if adapter == pruned else recovery
                    ret = ret_of(adapter, other, "ta", conflict) + change + noise.normal(0, 0.02)
                    yield label_of(pair, adapter, ret, action="prune", pruned=f"{pruned}:{band}")


def _reweighted(names: list[str], conflict: dict[frozenset[str], float]) -> Iterator[Label]:
    for pair in list(combinations(names, 2))[::20]:
        for weights in ((1.0, 0.5), (0.5, 1.0)):
            for adapter, weight in zip(pair, weights, strict=True):
                other = pair[1 - pair.index(adapter)]
                ret = ret_of(adapter, other, "ta", conflict) + (0.15 if weight == 1.0 else -0.2)
                yield label_of(pair, adapter, ret, action="reweight", weights=weights)


def _singles(names: list[str]) -> Iterator[Label]:
    for name in names:
        yield label_of((name,), name, 1.0, "", action="single", kept_energy=np.nan, norm_ratio=np.nan)
    # Another adapter answers all rows of math-0, so U* there is 1 and G is 0.8 / 0.9.
    yield label_of(("math-1",), "math-0", 1.0, "", action="single", merged_scores=_first(NUM_ROWS))


def _preferences() -> Iterator[Label]:
    for size in (2, 4):
        members = tuple(f"delta-{k}" for k in range(size))
        for operator, gain in (("ta", PREFERENCE_GAIN), ("gam", -PREFERENCE_GAIN)):
            for place, adapter in enumerate(members):
                # Each weaker than the one before: the best is delta-0, with half of the rows.
                single = NUM_ROWS // 2 - 3 * place
                merged = NUM_ROWS // 2 + round(NUM_ROWS * gain)
                yield label_of(
                    members, adapter, 1.0, operator, single_scores=_first(single), merged_scores=_first(merged)
                )


def _controls(names: list[str]) -> Iterator[Label]:
    for place, name in enumerate(names[::2]):
        yield label_of(tuple(sorted((name, "noise"))), name, 0.95 + (-1) ** place * 0.04)
    for adapter in ("math-0", "twin"):
        yield label_of(("math-0", "twin"), adapter, 0.9)


def _weak(names: list[str]) -> Iterator[Label]:
    for name in names[:NUM_WEAK_LABELS]:
        yield label_of(
            tuple(sorted((WEAK, name))), WEAK, 0.0, single_scores=_first(BASE + 1), merged_scores=_first(NUM_ROWS)
        )


def _variants() -> Iterator[Label]:
    for method, ret in (("osrm", 0.65), ("flylora", 0.7)):
        members = tuple(f"{domain}-{method}" for domain in DOMAINS)
        for adapter in members:
            yield label_of(members, adapter, ret)


def _extra_adapters() -> list[AdapterRecord]:
    deltas = [_adapter(f"delta-{k}", "math", "dpo", "weak deltas") for k in range(4)]
    variants = [
        _adapter(f"{domain}-{method}", domain, method, method) for domain in DOMAINS for method in ("osrm", "flylora")
    ]
    shared = _adapter("math-0", "math").a_seed
    return [
        *deltas,
        *variants,
        _adapter("noise", "math", "random"),
        _adapter("twin", "code", group="seed", a_seed=shared),
    ]


def _adapter_features(names: list[str]) -> Iterator[FeatureRow]:
    for name in names:
        final = math.log10(NORM_GROWTH + (-1) ** names.index(name) * 0.1)
        for rho, energy in ((0.02, -0.3), (0.05, -0.1), (0.10, 0.0), (1.0, final)):
            yield FeatureRow((name,), (rho,), {"energy/all/mean": energy, "base_accuracy/all/value": 0.1})


def _pair_features(names: list[str], conflict: dict[frozenset[str], float]) -> Iterator[FeatureRow]:
    noise = np.random.default_rng(5)
    nothing = _symmetric([*names, "twin", "noise"], noise)
    for rho, spread in ((0.02, 0.5), (0.05, 0.2), (0.10, 0.02), (1.0, 0.0)):
        for pair in combinations(names, 2):
            signal = conflict[frozenset(pair)] + noise.normal(0, spread) if spread else conflict[frozenset(pair)]
            yield FeatureRow(pair, (rho, rho), _values(pair, signal, nothing[frozenset(pair)], noise))
    yield FeatureRow(("math-0", "twin"), (1.0, 1.0), {f"symmetric:{SIGNAL}": 0.98})
    yield FeatureRow(("math-0", "noise"), (1.0, 1.0), {f"symmetric:{SIGNAL}": 0.0})


def _values(pair: tuple[str, str], signal: float, nothing: float, noise: np.random.Generator) -> dict[str, float]:
    return {
        f"symmetric:{SIGNAL}": signal,
        f"symmetric:{NULL_SIGNAL}": nothing,
        "symmetric:cosine/all/mean": float(noise.normal(0, 0.05)),
        "symmetric:same_domain/all/value": float(_domain(pair[0]) == _domain(pair[1])),
        "forth:fisher_overlap/all/mean": float(noise.uniform()),
        "back:fisher_overlap/all/mean": float(noise.uniform()),
        "symmetric:gradient_cosine/all/mean": float("nan"),
    }
