"""Section 10: preference deltas (PDA), and whether a merge of weak ones beats the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.bank.records import Label
from probe.bank.report.charts import Forest, Group
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import Figure, Section, Table, Verdict
from probe.bank.report.statistics import Estimate, mean_over_units

SOURCE = "Preference Delta Aggregation, arXiv 2606.00357"


@dataclass(frozen=True, slots=True)
class Composition:
    """A merge of preference deltas on one set of evaluation rows, against the best of its members there."""

    group: str
    operator: str
    size: int
    best: str
    best_score: float
    merged_score: float
    gain: Estimate


def preference(bank: Measurements) -> Section:
    """Return merges of 2, 4 and 8 preference deltas of one domain less the best single one, paired over rows."""
    title = "Preference deltas: merge against the best single one"
    compositions = _compositions(bank)
    if not compositions:
        return Section("preference", title, gaps=("No merge of preference (dpo) adapters of one group was measured.",))
    text = (
        "Scores, not Ret: a weak delta may gain too little for a ratio, and none is needed here. The best member is "
        "chosen on the same rows, which favours it: the gain of the merge is understated, never overstated.",
    )
    columns = ("group", "operator", "members", "best single", "its score", "merged score", "merged less best")
    rows = tuple(
        (one.group, one.operator, one.size, one.best, one.best_score, one.merged_score, one.gain)
        for one in compositions
    )
    table = Table("composition", "Compositions", columns, rows)
    return Section("preference", title, text, (table,), (_figure(compositions),), _verdicts(compositions))


def _compositions(bank: Measurements) -> list[Composition]:
    found: dict[tuple[str, str, tuple[str, ...]], list[Label]] = {}
    for row in where(bank.labels, action="merge").itertuples():
        groups = {(bank.domain(name), bank.adapters[name].group) for name in row.members}
        if len(row.members) > 1 and bank.methods(row.members) == {"dpo"} and len(groups) == 1:
            domain, group = next(iter(groups))
            found.setdefault((group or domain, row.operator, row.members), []).append(row.label)
    ordered = sorted(found.items(), key=lambda item: (item[0][0], item[0][1], len(item[0][2]), item[0][2]))
    return [_composition(*key, labels) for key, labels in ordered]


def _composition(group: str, operator: str, members: tuple[str, ...], labels: list[Label]) -> Composition:
    """Compare on the rows of the group, which its members share (the same base scores)."""
    shared = min(label.num_rows for label in labels)
    rows = labels[0].base_scores[:shared]
    same = [label for label in labels if label.base_scores[:shared] == rows]
    best = max(same, key=lambda label: (float(np.mean(label.single_scores[:shared])), label.adapter))
    merged, single = (np.asarray(of[:shared]) for of in (best.merged_scores, best.single_scores))
    gain = mean_over_units(merged - single, "rows")
    return Composition(group, operator, len(members), best.adapter, float(single.mean()), float(merged.mean()), gain)


def _figure(compositions: list[Composition]) -> Figure:
    operators = sorted({one.operator for one in compositions})
    kinds = sorted({(one.group, one.size) for one in compositions})
    gains = {(one.operator, one.group, one.size): one.gain for one in compositions}
    groups = tuple(Group(name, tuple(gains.get((name, *kind)) for kind in kinds)) for name in operators)
    num_rows = {(one.group, one.size): one.gain.n for one in compositions}
    rows = tuple(f"{group}, {size} members (n = {num_rows[group, size]} rows)" for group, size in kinds)
    caption = "Score of the merge less that of the best single delta; error bars: 95 % paired bootstrap over rows."
    return Figure("composition", caption, Forest(rows, groups, "merged less best single", 0.0))


def _verdicts(compositions: list[Composition]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            key=f"PDA, {one.group}, {one.operator}, {one.size} members",
            claim="Merging preference deltas of one domain beats the best single one.",
            source=SOURCE,
            measure="merged less best single score, paired over rows",
            estimate=one.gain,
        )
        for one in compositions
    )
