"""Section 2: Table 1 of the paper, measured: one adapter of every domain merged into one module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.bank.records import Label
from probe.bank.report.charts import Forest, Group
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict
from probe.bank.report.statistics import NUM_RESAMPLES, Estimate, Vector, estimate, generator, row_draws

PAPER_AVERAGE: Mapping[str, float] = {"ta": 0.803}
"""arXiv 2606.19549, Table 3, "forced direct merge"; the text that we hold lacks the body of its Table 1."""
PAPER_POLICY = 0.914
"""arXiv 2606.19549, Table 3, "full model": its policy, which may route, so no single operator compares with it."""
_BANKS: Mapping[str, str] = {"sft": "", "osrm": " (OSRM-init bank)", "flylora": " (FlyLoRA-static bank)"}

Set = tuple[str, ...]


@dataclass(frozen=True)
class Merge:
    """All sets of one bank under one operator.

    Attributes
    ----------
    name, operator
        For people, and the key.
    labels
        Set -> domain -> label; sound labels only.
    """

    name: str
    operator: str
    labels: Mapping[Set, Mapping[str, Label]]


def all_domains(bank: Measurements) -> Section:
    """Return per-domain retention of merges of all domains, for every operator and bank."""
    merges = _merges(bank)
    title = "Table 1, measured: all domains in one module"
    if len(bank.domains) < 2 or not merges:
        return Section("all-domains", title, gaps=("No set with one adapter of every domain was merged.",))
    table = Table("retention", "Retention by domain", *_rows(bank, merges), _note(bank, merges))
    return Section(
        "all-domains", title, _text(), (table, _normalised(bank, merges)), _figures(bank, merges), _verdicts(merges)
    )


def _text() -> tuple[str, ...]:
    return (
        f"One adapter of each domain, merged at equal output rank. The router keeps every adapter separate: Ret = 1 by "
        f"construction. The column *paper (simulated)* is the average that {PAPER} prints in its Table 3; Appendix B "
        f"says that it comes from a simulator and pilot runs. Its full policy, which may route, is {PAPER_POLICY:g} "
        "there. The per-domain cells of its Table 1 are not in the text that we hold, so they are not shown.",
        "Intervals: bootstrap over sets and, within a set, over evaluation rows; the same rows are drawn for every "
        "operator. Few sets say little of the sets that were not drawn. Worst is the mean over sets of the least Ret "
        "of a set: noise alone lowers it.",
    )


def _merges(bank: Measurements) -> list[Merge]:
    found: dict[tuple[str, str], dict[Set, dict[str, Label]]] = {}
    for row in where(bank.sound, action="merge").itertuples():
        methods = bank.methods(row.members)
        method = next(iter(methods))
        covered = sorted(bank.domain(name) for name in row.members)
        is_control = method == "sft" and not row.is_trained
        if len(methods) == 1 and method in _BANKS and covered == list(bank.domains) and not is_control:
            sets = found.setdefault((method, row.operator), {})
            sets.setdefault(row.members, {})[row.domain] = row.label
    order = list(_BANKS)
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return [Merge(operator + _BANKS[method], operator, found[method, operator]) for method, operator in keys]


@dataclass(frozen=True, slots=True, eq=False)
class _Replicated:
    """Ret (or normalised accuracy) of one label, and its bootstrap over rows, (resamples,)."""

    value: float
    replicates: Vector


def _ratio(label: Label, *, is_normalised: bool) -> _Replicated:
    base = np.zeros(label.num_rows) if is_normalised else np.asarray(label.base_scores)
    kept, gained = np.asarray(label.merged_scores) - base, np.asarray(label.single_scores) - base
    drawn = row_draws(label.adapter, label.num_rows)
    below = drawn @ gained
    replicates = np.divide(drawn @ kept, below, out=np.full(len(below), math.nan), where=below > 0)
    return _Replicated(label.normalised_accuracy if is_normalised else label.retention.value, replicates)


def _over_sets(per_set: Sequence[_Replicated]) -> Estimate:
    """Average over sets, drawn with replacement; a single set leaves the rows as the only source of noise."""
    values = np.asarray([one.value for one in per_set])
    replicates = np.stack([one.replicates for one in per_set], axis=1)
    drawn = generator().multinomial(len(values), np.full(len(values), 1 / len(values)), size=NUM_RESAMPLES)
    mean = (drawn * replicates).sum(axis=1) / len(values)
    # Rows are the units that bound a single set: there are always more of them than adapters or sets.
    return estimate(float(values.mean()), mean, len(values), "sets", num_units=NUM_RESAMPLES)


def _ratios(merge: Merge, *, is_normalised: bool) -> dict[Set, dict[str, _Replicated]]:
    return {
        members: {domain: _ratio(label, is_normalised=is_normalised) for domain, label in labels.items()}
        for members, labels in merge.labels.items()
    }


def _cells(merge: Merge, domains: Sequence[str], *, is_normalised: bool = False) -> list[Estimate | None]:
    """Return one estimate a domain, the mean over domains and the worst domain."""
    ratios = _ratios(merge, is_normalised=is_normalised)
    by_domain: list[Estimate | None] = []
    for domain in domains:
        here = [of[domain] for of in ratios.values() if domain in of]
        by_domain.append(_over_sets(here) if here else None)
    mean, worst = [_mean(of) for of in ratios.values()], [_worst(of) for of in ratios.values()]
    return [*by_domain, _over_sets(mean), _over_sets(worst)]


def _mean(of: Mapping[str, _Replicated]) -> _Replicated:
    stacked = np.stack([one.replicates for one in of.values()])
    return _Replicated(float(np.mean([one.value for one in of.values()])), stacked.mean(axis=0))


def _worst(of: Mapping[str, _Replicated]) -> _Replicated:
    stacked = np.stack([one.replicates for one in of.values()])
    return _Replicated(min(one.value for one in of.values()), stacked.min(axis=0))


def _rows(bank: Measurements, merges: Sequence[Merge]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    columns = ("operator", *bank.domains, "mean", "worst", "sets", "paper (simulated)")
    rows: list[tuple[Cell, ...]] = [("router (upper bound)", *[1.0] * (len(bank.domains) + 2), None, None)]
    for merge in merges:
        paper = PAPER_AVERAGE.get(merge.name)
        rows.append((merge.name, *_cells(merge, bank.domains), len(merge.labels), paper))
    return columns, tuple(rows)


def _note(bank: Measurements, merges: Sequence[Merge]) -> str:
    short = sum(len(of) < len(bank.domains) for merge in merges for of in merge.labels.values())
    return f"Sets in which a domain's label is excluded (gain < 2 SE), so that mean and worst lack it: {short}."


def _normalised(bank: Measurements, merges: Sequence[Merge]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for merge in merges:
        labels = [label for of in merge.labels.values() for label in of.values()]
        norm, kept = (float(np.mean([getattr(one, name) for one in labels])) for name in ("norm_ratio", "kept_energy"))
        rows.append((merge.name, *_cells(merge, bank.domains, is_normalised=True), norm, kept))
    columns = ("operator", *bank.domains, "mean", "worst", "norm ratio", "kept energy")
    note = (
        "U_merged / U_single: far kinder than Ret wherever the base already scores. Norm ratio: |merged| over the mean "
    )
    return Table("normalised", "Normalised accuracy", columns, tuple(rows), note + "norm of the members.")


def _figures(bank: Measurements, merges: Sequence[Merge]) -> tuple[Figure, ...]:
    cells = [_cells(merge, bank.domains) for merge in merges]
    names = (*bank.domains, "mean", "worst")
    groups = tuple(Group(name, tuple(row[column] for row in cells)) for column, name in enumerate(names))
    rows = tuple(f"{merge.name} (n = {len(merge.labels)} sets)" for merge in merges)
    caption = (
        "Retention of merges of all domains; error bars: 95 % bootstrap over sets and rows. The line is the router."
    )
    return (Figure("retention", caption, Forest(rows, groups, "Ret", 1.0)),)


def _verdicts(merges: Sequence[Merge]) -> tuple[Verdict, ...]:
    """Compare the measured mean with what the paper prints for the forced direct merge."""
    direct = next((merge for merge in merges if merge.name == "ta"), None)
    if direct is None:
        return ()
    paper = PAPER_AVERAGE["ta"]
    return (
        Verdict(
            key="Table 1",
            claim=f"A forced direct merge of all domains keeps at least {paper:.1%} of the gain on average.",
            source=f"{PAPER}, Table 3 (simulated)",
            measure="mean Ret of all-domain sets under ta",
            estimate=_average(direct),
            null=paper,
        ),
    )


def _average(merge: Merge) -> Estimate:
    return _over_sets([_mean(of) for of in _ratios(merge, is_normalised=False).values()])
