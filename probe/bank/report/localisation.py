"""Section 5: in which layers the conflict lies: what leaving out a band of one member gives back to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probe.bank.records import Label
from probe.bank.report.charts import Forest, Group
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict
from probe.bank.report.statistics import Estimate, mean_over_pairs
from probe.layers import BANDS
from probe.retention import retention


@dataclass(frozen=True, slots=True)
class Change:
    """What a pruned recipe changed for one member: Ret less that of the unpruned merge, on the same rows.

    `is_own` says whether it was this member that lost the band.
    """

    members: tuple[str, ...]
    adapter: str
    operator: str
    band: str
    pruned: str
    is_own: bool
    change: float


def localisation(bank: Measurements) -> Section:
    """Return what pruning each band of a member gives the victim, and what it costs the pruned one."""
    title = "Layer localisation: what pruning a band recovers"
    changes = _changes(bank)
    if not changes:
        return Section("localisation", title, gaps=("No pruned merge beside an unpruned one of the same pair.",))
    text = (
        "One band (a third of the layers) of one member is left out and the rest merged again. Both numbers are "
        "differences of Ret to the unpruned merge of the same pair, on the same rows.",
        "The pairs were chosen because they conflict, so part of any recovery is regression to the mean; a comparison "
        "of bands is free of that, since all bands share the unpruned merge.",
    )
    return Section("localisation", title, text, (_table(changes),), (_figure(changes),), _verdicts(changes))


def _changes(bank: Measurements) -> list[Change]:
    plain = {
        (row.members, row.adapter, row.operator): row.label
        for row in bank.merges.itertuples()
        if row.label.weights is None
    }
    changes = []
    for row in where(bank.sound, action="prune").itertuples():
        pruned, _, band = (row.label.pruned or "").rpartition(":")
        unpruned = plain.get((row.members, row.adapter, row.operator))
        if unpruned is not None and band in BANDS and pruned in row.members:
            change = _difference(row.label, unpruned)
            is_own = pruned == row.adapter
            changes.append(Change(row.members, row.adapter, row.operator, band, pruned, is_own, change))
    # The rows that both asked may show no gain where the longer of the two did.
    return [one for one in changes if math.isfinite(one.change)]


def _difference(one: Label, other: Label) -> float:
    """Return Ret of a label less that of another of the same adapter, on the rows that both asked."""
    shared = min(one.num_rows, other.num_rows)
    first, second = (
        retention(of.base_scores[:shared], of.single_scores[:shared], of.merged_scores[:shared]).value
        for of in (one, other)
    )
    return first - second


def _mean(changes: Sequence[Change], band: str, *, is_own: bool) -> Estimate:
    here = [one for one in changes if one.band == band and one.is_own == is_own]
    return mean_over_pairs([one.change for one in here], [one.members for one in here])


def _table(changes: Sequence[Change]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator in sorted({one.operator for one in changes}):
        of = [one for one in changes if one.operator == operator]
        rows += [(operator, band, _mean(of, band, is_own=False), _mean(of, band, is_own=True)) for band in BANDS]
    columns = ("operator", "band left out", "change for the other member", "change for the pruned member")
    return Table("bands", "Change of Ret by band", columns, tuple(rows), "Positive: recovered. Negative: lost.")


def _figure(changes: Sequence[Change]) -> Figure:
    groups = tuple(
        Group(name, tuple(_mean(changes, band, is_own=is_own) for band in BANDS))
        for name, is_own in (("the other member", False), ("the pruned member", True))
    )
    rows = tuple(f"without {band} (n = {_mean(changes, band, is_own=False).n})" for band in BANDS)
    caption = "What leaving out a band changes; all operators; error bars: 95 % bootstrap over adapters."
    return Figure("bands", caption, Forest(rows, groups, "change of Ret", 0.0))


def _verdicts(changes: Sequence[Change]) -> tuple[Verdict, ...]:
    return (
        Verdict(
            key="H4, upper layers",
            claim="Conflict lies in the upper layers: pruning them recovers more than pruning others.",
            source=f"{PAPER}, Section 5.5, Figure 2b",
            measure="recovery from the upper band less the better of the other two, same pair and victim",
            estimate=_upper_lead(changes),
        ),
        Verdict(
            key="H4, prunable",
            claim="Pruning the upper band helps the pair: the other member gains more than the pruned one loses.",
            source=f"{PAPER}, H4 and Appendix H",
            measure="sum of both members' changes, upper band",
            estimate=_sum_of_both(changes, "upper"),
        ),
    )


def _upper_lead(changes: Sequence[Change]) -> Estimate:
    recovered: dict[tuple[tuple[str, ...], str, str], dict[str, float]] = {}
    for one in changes:
        if not one.is_own:
            recovered.setdefault((one.members, one.adapter, one.operator), {})[one.band] = one.change
    complete = {key: of for key, of in recovered.items() if set(of) == set(BANDS)}
    leads = [of["upper"] - max(of["lower"], of["middle"]) for of in complete.values()]
    return mean_over_pairs(leads, [members for members, _, _ in complete])


def _sum_of_both(changes: Sequence[Change], band: str) -> Estimate:
    both: dict[tuple[object, ...], list[Change]] = {}
    for one in changes:
        if one.band == band:
            both.setdefault((one.members, one.pruned, one.operator), []).append(one)
    complete = [pair for pair in both.values() if len(pair) == 2]
    sums = [sum(one.change for one in pair) for pair in complete]
    return mean_over_pairs(sums, [pair[0].members for pair in complete], "merges")
