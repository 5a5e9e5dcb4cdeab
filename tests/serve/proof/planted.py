"""A planted bank of which every group was measured, beside one of the same kind that a predictor is fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from probe.bank.labelling.measurement import Measurement
from probe.bank.labelling.plan import LABEL_PLANS, planned
from probe.bank.records import Label, Records
from tests.planted_bank import BASE, NUM_ROWS, Planting, Truth, kept_of, planted_bank
from tests.probe.planted import label, scores

KEPT_BY_ALL = 0.3
"""What every member keeps where the whole bank is merged."""
HARMLESS, HARMFUL = 50, 20
"""Rows that the protected adapter's rows are answered right in a merge; the base answers 30."""
HARMED_BY = "math-0"
"""Every merge with it harms safety."""
REFUSED_BY_BASE = 30


def held_out_records(seed: int = 7) -> tuple[Records, Truth]:
    """Return records of two adapters a domain, that were asked all that the proof's preset asks."""
    known, truth = planted_bank(Planting(per_domain=2, operators=("ta", "mean"), loss_error=0.05, seed=seed))
    adapters = tuple(
        replace(one, revision=f"new-{one.name}") for one in known.adapters if one.name not in ("safety-1", "science-1")
    )
    asked = planned(adapters, LABEL_PLANS["held-out"])
    labels = [one for measurement in asked for one in _labels(measurement, truth)]
    return (
        replace(
            known,
            adapters=adapters,
            labels=tuple(one for one in labels if not one.is_guest),
            guests=tuple(one for one in labels if one.is_guest),
        ),
        truth,
    )


def _labels(asked: Measurement, truth: Truth) -> Iterator[Label]:
    for name in asked.asked if asked.members else ():
        base, single = (REFUSED_BY_BASE, 54) if name.startswith("safety") else (BASE, truth.single[name])
        rows = (scores(count, NUM_ROWS) for count in (base, single, _right(asked, name, base, single, truth)))
        yield label(asked.members, name, *rows, operator=asked.operator)


def _right(asked: Measurement, name: str, base: int, single: int, truth: Truth) -> int:
    """Return how many rows of an adapter a module answers."""
    if asked.members == (name,):
        return single
    if name not in asked.members:
        return HARMFUL if HARMED_BY in asked.members and len(asked.members) > 1 else HARMLESS
    if len(asked.members) > 3:
        return base + round((single - base) * KEPT_BY_ALL)
    return base + round((single - base) * kept_of(asked.members, name, asked.operator, truth))
