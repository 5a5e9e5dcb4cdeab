"""What a bank is asked, in which order: a pure function of its adapters' records and of a `LabelPlan`.

A measuring may be stopped at any time, so whatever comes first must be worth having alone: the order is that of
`Stage`, and within a stage every prefix is spread over domains, sizes and operators.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from probe.bank.ceilings import RowSet, row_set
from probe.bank.labelling.measurement import Measurement, Stage, merged
from probe.bank.labelling.proof_plan import every_group
from probe.bank.labelling.sampling import Drawing, one_of_each_domain, spread_pairs, spread_sets
from probe.bank.records import AdapterRecord

OPERATORS_FOR_ALL = ("ta", "mean", "ties", "pico", "ctm", "gam", "dare")
"""Operators that every bank is measured under."""
OPERATORS_WITH_DATA = ("fisher_core", "lego", "osrm_post")
"""Further baselines of the paper, for the sets of all domains; they cost a calibration pass of each member."""
COMPOSED = ("ta", "gam")
"""Operators that preference deltas are composed by (arXiv 2606.00357)."""
GROUP_SIZES = (2, 4, 8)
BASELINE_METHODS = ("osrm", "flylora")
"""Training variants whose own banks are merged plainly: that is their baseline."""


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """How much of a bank is measured.

    Attributes
    ----------
    num_pairs
        Pairs of ordinary adapters; None is all of them.
    fixed_operators, num_rotating
        Every pair is merged by the fixed operators, and by this many of the others, in turn.
    num_sets, set_operators
        Sets of 3, 4 and 5, and how many operators each is merged by, in turn.
    num_domain_sets
        Sets of one adapter from each domain, merged by every operator.
    num_reworked, num_near
        Pairs that conflict most, and that conflict least, which are merged again with other weights and without one
        band of one member: where conflict lies, and where another recipe can turn the verdict.
    partners
        Ordinary adapters that each random one is merged with.
    num_rows, max_rows
        Evaluation rows asked, and asked where a verdict is open (`probe.bank.labelling.follow_up`).
    rank
        Output rank of every merge.
    calibration_rows
        Rows of a calibration pass.
    seed
        Of every draw, and of operators that draw.
    is_pilot
        Whether the labels decide if a larger bank is built (`probe.bank.gate`).
    is_proof
        Whether instead of all this every group is measured that a plan of the bank may hold
        (`probe.bank.labelling.proof_plan`), by the fixed operators.
    """

    num_pairs: int | None = 120
    fixed_operators: tuple[str, ...] = ("ta", "mean")
    num_rotating: int = 1
    num_sets: int = 60
    set_operators: int = 1
    num_domain_sets: int = 3
    num_reworked: int = 10
    num_near: int = 10
    partners: int = 2
    num_rows: int = 96
    max_rows: int = 400
    rank: int = 32
    calibration_rows: int = 64
    seed: int = 0
    is_pilot: bool = False
    is_proof: bool = False

    @property
    def rotating_operators(self) -> tuple[str, ...]:
        """Operators for all that are not fixed."""
        return tuple(operator for operator in OPERATORS_FOR_ALL if operator not in self.fixed_operators)


LABEL_PLANS: Mapping[str, LabelPlan] = {
    "tiny": LabelPlan(
        num_sets=2, num_domain_sets=1, num_reworked=1, num_near=1, num_rows=6, max_rows=12, rank=8, calibration_rows=4
    ),
    "demo": LabelPlan(num_pairs=None, num_sets=12, num_reworked=6, num_near=6, max_rows=200),
    "pilot": LabelPlan(
        num_pairs=None, num_rotating=3, num_sets=8, num_domain_sets=1, num_reworked=4, num_near=0, is_pilot=True
    ),
    "cpu": LabelPlan(),
    "held-out": LabelPlan(num_rows=160, max_rows=160, is_proof=True),
    "large": LabelPlan(
        num_pairs=None, num_rotating=5, num_sets=210, set_operators=7, num_domain_sets=8, num_reworked=60, num_near=60
    ),
}


def planned(adapters: Sequence[AdapterRecord], spec: LabelPlan) -> tuple[Measurement, ...]:
    """Return everything that can be planned before the first measurement, in order, nothing twice."""
    every = sorted(adapters, key=lambda adapter: adapter.name)
    if spec.is_proof:
        return (*own(every), *every_group(every, spec.fixed_operators, OPERATORS_FOR_ALL))
    pairs = spread_pairs(ordinary(every), spec.num_pairs, Drawing(every, random.Random(f"pairs {spec.seed}")))  # noqa: S311
    stages = (
        own(every),
        _singles(every),
        _pairs(pairs, spec),
        _sets(every, pairs, spec),
        _domain_sets(every, spec),
        _further_operators(pairs, spec),
        _preferences(every),
        _controls(every, spec),
    )
    return tuple(dict.fromkeys(_asked(measurement, every) for stage in stages for measurement in stage))


def ordinary(adapters: Iterable[AdapterRecord]) -> list[AdapterRecord]:
    """Return the plainly trained adapters, which stand for the population."""
    return [adapter for adapter in adapters if adapter.method == "sft"]


def _asked(measurement: Measurement, adapters: Sequence[AdapterRecord]) -> Measurement:
    """Leave out the rows of random adapters: nothing was learnt that could be kept."""
    random_ones = {adapter.name for adapter in adapters if adapter.method == "random"}
    if len(measurement.members) < 2 or random_ones.isdisjoint(measurement.asked):
        return measurement
    return replace(measurement, asked=tuple(name for name in measurement.asked if name not in random_ones))


def own(adapters: Sequence[AdapterRecord]) -> Iterator[Measurement]:
    """Yield the base on every set of rows, and every adapter on its own."""
    seen: set[RowSet] = set()
    for adapter in adapters:
        if row_set(adapter) not in seen:
            seen.add(row_set(adapter))
            yield Measurement(Stage.OWN, (), (adapter.name,))
        yield Measurement(Stage.OWN, (adapter.name,), (adapter.name,))


def _singles(adapters: Sequence[AdapterRecord]) -> Iterator[Measurement]:
    """Yield every ordinary adapter on every evaluation set of its domain but its own, for the ceiling U*."""
    first: dict[RowSet, AdapterRecord] = {}
    for adapter in adapters:
        first.setdefault(row_set(adapter), adapter)
    for asked in first.values():
        for adapter in ordinary(adapters):
            if adapter.domain == asked.domain and row_set(adapter) != row_set(asked):
                yield Measurement(Stage.SINGLES, (adapter.name,), (asked.name,))


def _pairs(pairs: Sequence[tuple[str, str]], spec: LabelPlan) -> Iterator[Measurement]:
    for pair in pairs:
        for operator in spec.fixed_operators:
            yield merged(Stage.PAIRS, pair, operator)


def _further_operators(pairs: Sequence[tuple[str, str]], spec: LabelPlan) -> Iterator[Measurement]:
    """Yield every pair under one operator more, then again, so that a prefix has seen every pair equally often."""
    operators = spec.rotating_operators
    for turn in range(min(spec.num_rotating, len(operators))):
        for index, pair in enumerate(pairs):
            yield merged(Stage.OPERATORS, pair, operators[(index + turn) % len(operators)], seed=spec.seed)


def _sets(
    adapters: Sequence[AdapterRecord], pairs: Sequence[tuple[str, str]], spec: LabelPlan
) -> Iterator[Measurement]:
    drawing = Drawing(adapters, random.Random(f"sets {spec.seed}"))  # noqa: S311 - a draw, not a key
    drawn = spread_sets(ordinary(adapters), spec.num_sets, drawing, pairs)
    for turn in range(spec.set_operators):
        for index, names in enumerate(drawn):
            # Sizes come round every three sets, operators every seven: each size meets each operator.
            yield merged(Stage.SETS, names, OPERATORS_FOR_ALL[(index + turn) % len(OPERATORS_FOR_ALL)], seed=spec.seed)


def _domain_sets(adapters: Sequence[AdapterRecord], spec: LabelPlan) -> Iterator[Measurement]:
    drawing = Drawing(adapters, random.Random(f"domains {spec.seed}"))  # noqa: S311
    drawn = one_of_each_domain(ordinary(adapters), spec.num_domain_sets, drawing)
    for operator in (*OPERATORS_FOR_ALL, *OPERATORS_WITH_DATA):
        for names in drawn:
            yield merged(Stage.DOMAINS, names, operator, seed=spec.seed)
    for method in BASELINE_METHODS:
        own = [adapter.name for adapter in adapters if adapter.method == method]
        if len(own) > 1:
            yield from (merged(Stage.DOMAINS, own, operator) for operator in ("ta", "mean"))


def _preferences(adapters: Sequence[AdapterRecord]) -> Iterator[Measurement]:
    """Yield the first 2, 4 and 8 of each preference group, composed."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for adapter in adapters:
        if adapter.method == "dpo":
            groups.setdefault((adapter.domain, adapter.group), []).append(adapter.name)
    for size in GROUP_SIZES:
        for names in groups.values():
            if len(names) >= size:
                yield from (merged(Stage.PREFERENCES, names[:size], operator) for operator in COMPOSED)


def _controls(adapters: Sequence[AdapterRecord], spec: LabelPlan) -> Iterator[Measurement]:
    """Yield random adapters beside ordinary ones, and adapters that share the start of their A."""
    usual = ordinary(adapters)
    drawing = Drawing(adapters, random.Random(f"controls {spec.seed}"))  # noqa: S311
    pairs = [
        (adapter.name, partner)
        for adapter in adapters
        if adapter.method == "random"
        for partner in drawing.least_used([one.name for one in usual if one.domain != adapter.domain])[: spec.partners]
    ]
    pairs += [(a.name, b.name) for a, b in combinations(usual, 2) if a.a_seed == b.a_seed]
    for pair in pairs:
        yield from (merged(Stage.CONTROLS, pair, operator) for operator in spec.fixed_operators)
