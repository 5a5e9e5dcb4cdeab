"""A bank that was never trained: what its merges keep is a known function of a few signals, plus noise.

Two adapters conflict where their planted places lie close together (a signal of the weights), and a victim suffers as
its own frailty times the other's force (signals of the calibration, directional). All other columns are noise. Early in
training every signal is seen through a haze.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from probe.bank.records import AdapterRecord, FeatureRow, Label, Records
from probe.features import ADAPTER_COLUMNS, DIRECTED_COLUMNS, SYMMETRIC_COLUMNS
from tests.probe.planted import adapter, label, scores
from tests.probe.planted_records import DOMAINS, FACTS

NUM_ROWS = 60
BASE = 6
BEST = 54
"""Rows that the base, and the best adapter of a domain, answer."""
KEPT = {"ta": 1.08, "mean": 0.98, "ties": 0.88}
"""Ret of a pair without conflict."""
CONFLICT, FRAILTY = 0.6, 0.35
REACH = 0.15
"""How close two places must lie to conflict."""
SET_COST = 0.05
"""What every member beyond two costs each."""
HAZE = 0.15
"""Noise of a signal at the start of training; none is left at the end."""

PLACE_SIGNAL = "symmetric:overlap_in/all/mean"
FORCE_SIGNAL = "energy/all/mean"
FRAILTY_SIGNAL = "fisher_trace/all/mean"
HARM_SIGNAL = "fisher_load/all/mean"


@dataclass(frozen=True)
class Planting:
    """How much is planted.

    Attributes
    ----------
    noise
        Standard deviation of Ret that no signal tells.
    is_shuffled
        Whether labels are dealt out anew, so that nothing can be learnt.
    loss_error
        Standard deviation of what losses on calibration rows tell of Ret; None: they were not measured.
    rhos
        Early shares of training.
    """

    per_domain: int = 4
    operators: tuple[str, ...] = ("ta", "ties")
    num_sets: int = 0
    noise: float = 0.04
    is_shuffled: bool = False
    loss_error: float | None = None
    rhos: tuple[float, ...] = (0.1,)
    seed: int = 0


@dataclass(frozen=True)
class Truth:
    """What was planted: place, frailty, force and rows answered alone, by name."""

    place: Mapping[str, float]
    frailty: Mapping[str, float]
    force: Mapping[str, float]
    single: Mapping[str, int]

    def conflict(self, first: str, second: str) -> float:
        """Return the conflict of two adapters, 0..1."""
        return math.exp(-(((self.place[first] - self.place[second]) / REACH) ** 2))

    def harm(self, mover: str, victim: str) -> float:
        """Return what one adapter does to another, 0..1."""
        return self.force[mover] * self.frailty[victim]

    def retention(self, victim: str, other: str, operator: str) -> float:
        """Return Ret of a victim beside another, before noise."""
        return KEPT[operator] - CONFLICT * self.conflict(victim, other) - FRAILTY * self.harm(other, victim)


def planted_bank(planting: Planting = Planting()) -> tuple[Records, Truth]:
    """Return records and what was planted in them."""
    draw = np.random.default_rng(planting.seed)
    adapters = [_adapter(domain, number) for domain in DOMAINS for number in range(planting.per_domain)]
    names = sorted(one.name for one in adapters)
    truth = Truth(*(dict(zip(names, draw.uniform(size=len(names)).tolist(), strict=True)) for _ in range(3)), {})
    singles = {name: 30 + round(24 * truth.force[name]) for name in names}
    # The best of each domain answers `BEST` rows, so that G is 1 for it.
    best = {domain: max(singles[name] for name in names if name.startswith(domain)) for domain in DOMAINS}
    truth = replace(truth, single={name: singles[name] + BEST - best[name.split("-")[0]] for name in names})
    labels = [_own(name, truth) for name in names] + list(_merges(names, truth, planting, draw))
    return (
        Records(
            facts=FACTS,
            adapters=tuple(adapters),
            labels=tuple(labels),
            adapter_features=tuple(_adapter_rows(names, truth, planting, draw)),
            pair_features=tuple(_pair_rows(names, truth, planting, draw)),
        ),
        truth,
    )


def _adapter(domain: str, number: int) -> AdapterRecord:
    return adapter(f"{domain}-{number}", domain)


def _own(name: str, truth: Truth) -> Label:
    alone = scores(truth.single[name], NUM_ROWS)
    return label((name,), name, scores(BASE, NUM_ROWS), alone, alone)


def _merges(names: list[str], truth: Truth, planting: Planting, draw: np.random.Generator) -> Iterator[Label]:
    merges = [(pair, operator) for operator in planting.operators for pair in combinations(names, 2)]
    for number in range(planting.num_sets):
        members = tuple(sorted(draw.choice(names, size=3 + number % 3, replace=False).tolist()))
        merges += [(members, operator) for operator in planting.operators]
    asked = [(members, name, operator) for members, operator in merges for name in members]
    kept = np.array([kept_of(*one, truth) for one in asked]) + draw.normal(0, planting.noise, size=len(asked))
    if planting.is_shuffled:
        draw.shuffle(kept)
    for (members, name, operator), ret in zip(asked, kept, strict=True):
        single = truth.single[name]
        merged = min(max(BASE + round((single - BASE) * float(ret)), 0), NUM_ROWS)
        columns = (scores(count, NUM_ROWS) for count in (BASE, single, merged))
        yield label(members, name, *columns, operator=operator)


def kept_of(members: tuple[str, ...], victim: str, operator: str, truth: Truth) -> float:
    """Return Ret of a member of a merge, before noise."""
    beside = [truth.retention(victim, other, operator) for other in members if other != victim]
    return min(beside) - SET_COST * (len(members) - 2)


def _adapter_rows(
    names: list[str], truth: Truth, planting: Planting, draw: np.random.Generator
) -> Iterator[FeatureRow]:
    columns = [column.name for column in ADAPTER_COLUMNS]
    for name in names:
        domain = {f"is_{domain}/all/value": float(name.startswith(domain)) for domain in DOMAINS}
        for rho in (*planting.rhos, 1.0):
            values = dict(zip(columns, draw.uniform(size=len(columns)).tolist(), strict=True))
            planted = {FORCE_SIGNAL: truth.force[name], FRAILTY_SIGNAL: truth.frailty[name]}
            seen = {column: value + _haze(rho, draw) for column, value in planted.items()}
            yield FeatureRow((name,), (rho,), values | domain | {"rank/all/value": 8.0} | seen)


def _pair_rows(names: list[str], truth: Truth, planting: Planting, draw: np.random.Generator) -> Iterator[FeatureRow]:
    columns = [f"symmetric:{column.name}" for column in SYMMETRIC_COLUMNS]
    columns += [f"{way}:{column.name}" for way in ("forth", "back") for column in DIRECTED_COLUMNS]
    for first, second in combinations(names, 2):
        planted = {
            PLACE_SIGNAL: truth.conflict(first, second),
            f"forth:{HARM_SIGNAL}": truth.harm(first, second),
            f"back:{HARM_SIGNAL}": truth.harm(second, first),
        }
        for rhos in _states(planting.rhos):
            values = dict(zip(columns, draw.uniform(size=len(columns)).tolist(), strict=True))
            values |= _losses("forth", second, first, truth, planting, draw)
            values |= _losses("back", first, second, truth, planting, draw)
            seen = {column: value + _haze(min(rhos), draw) for column, value in planted.items()}
            yield FeatureRow((first, second), rhos, values | seen)


def _losses(
    way: str, victim: str, other: str, truth: Truth, planting: Planting, draw: np.random.Generator
) -> Mapping[str, float]:
    """Return what losses on the victim's rows tell of it beside the other, summed and halved."""
    found = {}
    for how, operator in (("sum", "ta"), ("mean", "mean")):
        error = math.nan if planting.loss_error is None else draw.normal(0, planting.loss_error)
        kept = truth.retention(victim, other, operator) + error
        found |= {f"{way}:loss_kept_{how}/all/value": kept, f"{way}:loss_added_{how}/all/value": 1 - kept}
    return found


def _states(rhos: tuple[float, ...]) -> Iterator[tuple[float, float]]:
    yield 1.0, 1.0
    for rho in rhos:
        yield from ((rho, rho), (rho, 1.0), (1.0, rho))


def _haze(rho: float, draw: np.random.Generator) -> float:
    return float(draw.normal(0, HAZE)) if rho < 1 else 0.0
