"""What a bank is asked once its first answers are in: other recipes for conflicts, further rows for close verdicts.

Pure functions of the labels, of the adapters' records and of a `LabelPlan`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from probe.bank.ceilings import row_set
from probe.bank.labelling.measurement import Measurement, Stage, merged
from probe.bank.labelling.plan import LabelPlan, own
from probe.bank.records import AdapterRecord, Label
from probe.layers import BANDS
from probe.plan_score import TARGET_RETENTION

CLOSE = 1.0
"""Standard errors around `TARGET_RETENTION` within which a verdict is open: beyond it further rows would seldom turn
it, and they cost three times the label."""
SHARES = ((1.0, 0.5), (0.5, 1.0), (1.0, 0.25))
"""Weights of (victim, other)."""


def reworked(labels: Iterable[Label], adapters: Sequence[AdapterRecord], spec: LabelPlan) -> tuple[Measurement, ...]:
    """Return other recipes for pairs that were seen to conflict under plain task arithmetic.

    First victims of each domain in turn, the worst first, so that safety is among them wherever it loses anything;
    then the pairs of which the worse member kept most.
    """
    domains = {adapter.name: adapter.domain for adapter in adapters}
    conflicts = sorted(filter(_is_conflict, labels), key=lambda one: (one.retention.value, one.members, one.adapter))
    by_domain: dict[str, list[Label]] = {}
    for label in conflicts:
        by_domain.setdefault(domains[label.adapter], []).append(label)
    turns = _in_turn([by_domain[domain] for domain in sorted(by_domain)])
    worst = _victims(turns)[: spec.num_reworked]
    taken = {label.members for label in worst}
    near = [label for label in reversed(_victims(conflicts)) if label.members not in taken][: spec.num_near]
    return tuple(measurement for label in (*worst, *near) for measurement in _rework(label))


def _victims(labels: Iterable[Label]) -> list[Label]:
    """Return the first label of each pair, in order."""
    found: dict[tuple[str, ...], Label] = {}
    for label in labels:
        found.setdefault(label.members, label)
    return list(found.values())


def _is_conflict(label: Label) -> bool:
    is_plain_pair = label.action == "merge" and label.operator == "ta" and len(label.members) == 2
    return is_plain_pair and label.is_sound and label.retention.value < TARGET_RETENTION


def _in_turn(groups: Sequence[Sequence[Label]]) -> Iterator[Label]:
    for place in range(max(map(len, groups), default=0)):
        yield from (group[place] for group in groups if place < len(group))


def _rework(label: Label) -> Iterator[Measurement]:
    first = label.members[0] == label.adapter
    for victim, other in SHARES:
        yield merged(Stage.REWORKED, label.members, "ta", weights=(victim, other) if first else (other, victim))
    for member in label.members:
        for band in BANDS:
            yield merged(Stage.REWORKED, label.members, "ta", pruned=f"{member}:{band}")


def closer(
    asked: Mapping[Measurement, Iterable[Label]], adapters: Sequence[AdapterRecord], spec: LabelPlan
) -> tuple[Measurement, ...]:
    """Return what asks further rows wherever a verdict is open: the base and the adapters alone, then the closest.

    Parameters
    ----------
    asked
        Module -> its labels on the first rows.
    """
    if spec.max_rows <= spec.num_rows:
        return ()
    merges = {one: labels for one, labels in asked.items() if len(one.members) > 1}
    close = sorted(
        ((one, label) for one, labels in merges.items() for label in open_labels(tuple(labels))),
        key=lambda found: _distance(found[1]),
    )
    names = {label.adapter for _, label in close}
    every = sorted(adapters, key=lambda adapter: adapter.name)
    sets = {adapter.name: row_set(adapter) for adapter in every}
    close_sets = {sets[name] for name in names}
    alone = (
        one for one in own(every) if (one.members[0] in names if one.members else sets[one.asked[0]] in close_sets)
    )
    return tuple(map(further, (*alone, *(replace(one, asked=(label.adapter,)) for one, label in close))))


def further(measurement: Measurement) -> Measurement:
    """Return what asks the rows after the first ones."""
    return replace(measurement, stage=Stage.CLOSER, is_further=True)


def open_labels(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Return those of one module's labels that may turn the verdict on it: close ones, where no other member fails."""
    failed = {label.adapter for label in labels if label.retention.value < TARGET_RETENTION and not _is_close(label)}
    return tuple(label for label in labels if _is_close(label) and label.is_sound and not failed)


def _is_close(label: Label) -> bool:
    # Without a positive gain the distance is NaN, and no number of rows mends that.
    return _distance(label) < CLOSE


def _distance(label: Label) -> float:
    """Return how many standard errors the retention lies from the safe threshold."""
    seen = label.retention
    away = abs(seen.value - TARGET_RETENTION)
    return away / seen.standard_error if seen.standard_error else math.inf
