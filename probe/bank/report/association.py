"""Section 8: which signal goes with retention, over ordered pairs, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.bank.report.charts import Cloud, Forest, Group, Scatter
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.outcomes import Outcomes, Tested, outcomes_of, tested
from probe.bank.report.pair_columns import PairColumn, pair_matrices
from probe.bank.report.section import OURS, PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import (
    Estimate,
    estimate,
    mean_over_pairs,
    spearman_over_pairs,
    spearman_replicates,
)

NUM_TOP = 15
LEVEL = 0.05
COSINE, SAME_DOMAIN = PairColumn("pair", "cosine/all/mean"), PairColumn("pair", "same_domain/all/value")
OVERLAP, OVERLAP_OUT = PairColumn("pair", "overlap_in/all/mean"), PairColumn("pair", "overlap_out/all/mean")
GRADIENT, ACTIVATION = PairColumn("pair", "gradient_cosine/all/mean"), PairColumn("pair", "activation_overlap/all/mean")
SHIFT, FISHER = PairColumn("on victim", "shift_of_base/all/mean"), PairColumn("on victim", "fisher_overlap/all/mean")
LOSS = PairColumn("on victim", "loss_kept_sum/all/value")
BASELINES = (COSINE, SAME_DOMAIN)
"""What must stand beside any signal: the cosine alone, and whether the domains are equal."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a signal, by whom; `keeps` says whether more of it should go with more Ret."""

    name: str
    column: PairColumn
    keeps: bool
    text: str
    source: str = f"{PAPER}, Sections 2.2 and 3"


CLAIMS = (
    Claim("overlap in", OVERLAP, False, "Subspace overlap of what updates read predicts collision."),
    Claim("overlap out", OVERLAP_OUT, False, "Subspace overlap of what updates write predicts collision."),
    Claim("gradient", GRADIENT, True, "A lower gradient cosine predicts conflict."),
    Claim("activation", ACTIVATION, False, "Activation overlap predicts conflict."),
    Claim("shift", SHIFT, False, "A larger shift of the victim's states predicts conflict."),
    Claim("Fisher", FISHER, False, "Fisher-weighted overlap predicts conflict."),
    Claim("loss", LOSS, True, "What is left of the gain in loss beside the other predicts what is kept.", OURS),
)


def association(bank: Measurements) -> Section:
    """Return how every signal goes with Ret, with a permutation null and an interval that know the shared adapters."""
    title = "Signals and retention"
    matrices = pair_matrices(bank.records)
    outcomes = [outcomes_of(bank, matrices, operator) for operator in bank.main_operators()]
    found = [tested(one) for one in outcomes if len(one.ret) > 2]
    if not found:
        return Section("association", title, gaps=("Pair features at the end and Ret of pairs are both needed.",))
    tables = [table for one in found for table in (_main_table(one), _top_table(one))]
    verdicts = tuple(verdict for one in found for verdict in _verdicts(one.outcomes))
    figures = tuple(figure for one in found for figure in _figures(one))
    more = (_overlap_table(found), _domain_table(bank))
    gaps = tuple(
        f"{column.name} was not measured at the end of training."
        for column in dict.fromkeys((*BASELINES, *(claim.column for claim in CLAIMS)))
        if not any(column in one.main for one in found)
    )
    return Section("association", title, _text(), present((*tables, *more)), figures, verdicts, gaps)


def _text() -> tuple[str, ...]:
    return (
        "Spearman's correlation of a signal at the end of training with Ret of the victim, over ordered pairs only "
        "(set sizes are never pooled). Positive: more of the signal, more is kept. Intervals: bootstrap over adapters.",
        "p: share of renamings of the adapters that do as well, so that what pairs share through an adapter is in the "
        "null. Family-wise p: probability that the best of *all* columns does as well by chance. 28 pairs reach a "
        "correlation of 0.5 on noise: look at n first.",
        "*on victim*: what the other does to the victim; *by victim*: the reverse; *victim*, *other*: of one adapter.",
    )


def _row(one: Tested, column: PairColumn) -> tuple[Cell, ...]:
    found = one.main.get(column) or one.outcomes.spearman(column)
    return (column.family, column.name, found, *one.p_values(column))


_COLUMNS = ("family", "signal", "Spearman with Ret", "p", "family-wise p")


def _main_table(one: Tested) -> Table:
    baselines = [_row(one, column) for column in BASELINES if column in one.main]
    named = [(f"baseline: {row[0]}", *row[1:]) for row in baselines]
    rows = [_row(one, column) for column in one.main if column not in BASELINES]
    operator = one.outcomes.operator
    note = "Baselines first: a signal is worth its cost if it beats them."
    return Table(f"main-{operator}", f"Main column of every signal, {operator}", _COLUMNS, (*named, *rows), note)


def _overlap_table(found: list[Tested]) -> Table:
    """Return what overlap says of Ret: over all pairs, across domains only, and at the mean of either kind."""
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        (values, same), ret, members = one.outcomes.known(OVERLAP, SAME_DOMAIN)
        for name, keep in (("all", same >= 0), ("different domains", same < 1), ("same domain", same > 0)):
            here = np.flatnonzero(keep)
            if here.size:
                names = [members[index] for index in here]
                means = (mean_over_pairs(of[here], names) for of in (values, ret))
                rows.append((one.outcomes.operator, name, spearman_over_pairs(values[here], ret[here], names), *means))
    columns = ("operator", "pairs", "Spearman of overlap with Ret", "mean overlap", "mean Ret")
    note = (
        "Collision predicts a negative sign. Where pairs of one domain overlap most and yet keep most, the sign over "
        "all pairs is that of the domain, so the row of different domains is the one to read."
    )
    return Table("overlap", "Does subspace overlap predict collision?", columns, tuple(rows), note)


def _top_table(one: Tested) -> Table:
    permuted, operator = one.permuted, one.outcomes.operator
    known = np.flatnonzero(np.isfinite(permuted.correlations))
    order = known[np.argsort(-np.abs(permuted.correlations[known]), kind="stable")][:NUM_TOP]
    num_low = int((permuted.p_values[known] < LEVEL).sum())
    note = (
        f"{known.size} columns were tested; with p < {LEVEL:g}: {num_low}, by chance alone: {LEVEL * known.size:.1f}. "
        "These are the strongest, so they are selected: trust the family-wise p, not the interval."
    )
    rows = tuple(_row(one, one.outcomes.matrices.columns[index]) for index in order)
    return Table(f"top-{operator}", f"The strongest of all columns, {operator}", _COLUMNS, rows, note)


def _domain_table(bank: Measurements) -> Table:
    """Return how much of Ret's variance the pair of domain names explains: the baseline that needs no measurement."""
    rows: list[tuple[Cell, ...]] = []
    for operator in bank.main_operators():
        pairs = where(bank.pairs, operator=operator)
        cells = pairs.groupby(["domain", "other_domain"])["ret"]
        total = float(((pairs["ret"] - pairs["ret"].mean()) ** 2).sum())
        within = float(((pairs["ret"] - cells.transform("mean")) ** 2).sum())
        free = len(pairs) - cells.ngroups
        if total > 0 and free > 0:
            rows.append(
                (
                    operator,
                    len(pairs),
                    cells.ngroups,
                    1 - within / total,
                    1 - (within / free) / (total / (len(pairs) - 1)),
                )
            )
    columns = ("operator", "ordered pairs", "domain pairs", "R2", "adjusted R2")
    return Table("domains", "What the two domain names alone explain of Ret", columns, tuple(rows))


def _figures(one: Tested) -> tuple[Figure, ...]:
    found, operator = one.main, one.outcomes.operator
    if not found:
        return ()
    order = sorted(found, key=lambda column: found[column].value)
    rows = tuple(f"{_short(column)} (n = {found[column].n})" for column in order)
    caption = f"Spearman of each signal with Ret under {operator}; error bars: 95 % bootstrap over adapters."
    forest = Forest(rows, (Group("Spearman", tuple(found[column] for column in order)),), "Spearman with Ret", 0.0)
    return (Figure(f"spearman-{operator}", caption, forest), *_overlap_figure(one.outcomes))


def _short(column: PairColumn) -> str:
    return column.name.removesuffix("/all/mean").removesuffix("/all/value")


def _overlap_figure(outcomes: Outcomes) -> tuple[Figure, ...]:
    (x, same), ret, _ = outcomes.known(OVERLAP, SAME_DOMAIN)
    kinds = (("same domain", same > 0.5), ("different domains", same <= 0.5))
    clouds = tuple(
        Cloud(f"{name} (n = {int(keep.sum())})", tuple(map(float, x[keep])), tuple(map(float, ret[keep])))
        for name, keep in kinds
        if keep.any()
    )
    if not clouds:
        return ()
    caption = f"Does overlap predict collision? One point an ordered pair, {outcomes.operator}."
    chart = Scatter(clouds, "subspace overlap (input side) above chance", "Ret of the victim")
    return (Figure(f"overlap-{outcomes.operator}", caption, chart),)


def _verdicts(outcomes: Outcomes) -> list[Verdict]:
    verdicts = [
        Verdict(
            key=f"{claim.name} ({outcomes.operator})",
            claim=claim.text,
            source=claim.source,
            measure=f"Spearman of {claim.column.name} with Ret over ordered pairs",
            estimate=outcomes.spearman(claim.column),
            is_above=claim.keeps,
        )
        for claim in CLAIMS
    ]
    return [*verdicts, *_comparisons(outcomes)]


def _comparisons(outcomes: Outcomes) -> list[Verdict]:
    asked = (
        ("H2, gradient", "Gradient cosine separates pairs better than update cosine.", GRADIENT, COSINE),
        ("H2, activation", "Activation overlap separates pairs better than update cosine.", ACTIVATION, COSINE),
        ("H3", "Fisher weighting improves on unweighted overlap.", FISHER, OVERLAP),
    )
    return [
        Verdict(
            key=f"{key} ({outcomes.operator})",
            claim=claim,
            source=f"{PAPER}, Appendix C",
            measure=f"|Spearman| of {better.name} less that of {worse.name}, same pairs",
            estimate=_lead(outcomes, better, worse),
        )
        for key, claim, better, worse in asked
    ]


def _lead(outcomes: Outcomes, better: PairColumn, worse: PairColumn) -> Estimate:
    """Return by how much one column's absolute correlation with Ret leads another's, paired."""
    (x, y), ret, members = outcomes.known(better, worse)
    (value, replicates), (other, other_replicates) = (spearman_replicates(of, ret, members) for of in (x, y))
    lead = np.abs(replicates) - np.abs(other_replicates)
    adapters = {name for pair in members for name in pair}
    return estimate(abs(value) - abs(other), lead, len(ret), "ordered pairs", len(adapters), order=2)
