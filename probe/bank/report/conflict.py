"""Section 3: who harms whom: Ret matrices, their asymmetry, and safety as the victim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from probe.bank.report.charts import Forest, Group, HeatMap
from probe.bank.report.measurements import SAFETY, Measurements, where
from probe.bank.report.section import PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate, mean_over_pairs


def conflict(bank: Measurements) -> Section:
    """Return who keeps how much beside whom, over ordered pairs of trained adapters."""
    title = "Conflict: who harms whom"
    if bank.pairs.empty:
        return Section("conflict", title, gaps=("No sound pair of trained adapters.",))
    text = ("Rows are victims: a cell is what the row's adapter keeps of its gain when merged with the column's.",)
    tables = (_matrix_table(bank), _asymmetry_table(bank), _safety_table(bank))
    gaps = () if SAFETY in bank.domains else (f"No {SAFETY} adapter: nothing is said of it as a victim.",)
    return Section("conflict", title, text, present(tables), _figures(bank), _verdicts(bank), gaps)


def _matrix_table(bank: Measurements) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (operator, victim), group in bank.pairs.groupby(["operator", "domain"], sort=True):
        cells = [_mean(where(group, other_domain=other)) for other in bank.domains]
        rows.append((operator, victim, *cells))
    columns = ("operator", "victim", *(f"beside {domain}" for domain in bank.domains))
    return Table("matrix", "Ret by domain of victim and partner", columns, tuple(rows))


def _mean(frame: pd.DataFrame) -> Estimate | None:
    return mean_over_pairs(frame["ret"].to_numpy(float), list(frame["members"])) if len(frame) else None


def _asymmetry_table(bank: Measurements) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator in bank.operators:
        for first, second in _domain_pairs(bank):
            values, members = _differences(bank, operator, first, second)
            if values:
                rows.append((operator, first, second, mean_over_pairs(values, members, "pairs")))
    columns = ("operator", "i", "j", "Ret(i <- j) - Ret(j <- i)")
    note = "Negative: i loses more than j. Over pairs of which both directions are sound."
    return Table("asymmetry", "Asymmetry", columns, tuple(rows), note)


def _domain_pairs(bank: Measurements) -> list[tuple[str, str]]:
    return [(one, other) for one in bank.domains for other in bank.domains if one < other]


def _differences(
    bank: Measurements, operator: str, first: str, second: str | None
) -> tuple[list[float], list[tuple[str, ...]]]:
    """Return Ret of the `first` domain less Ret of the other, for pairs across these domains (None: any other)."""
    values, members = [], []
    for row in where(bank.both_ways, operator=operator).itertuples():
        domains = [bank.domain(name) for name in row.members]
        others = [domain for domain in domains if domain != first]
        if len(others) == 1 and second in (None, others[0]):
            sign = 1.0 if domains[0] == first else -1.0
            values.append(sign * (row.first - row.second))
            members.append(row.members)
    return values, members


def _safety_table(bank: Measurements) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator, partner, group in _safety_groups(bank):
        rows.append((operator, partner, _drop(group), float(group["ret"].min())))
    columns = ("operator", "partner's domain", "Drop of safety", "least Ret")
    return Table("safety", "Safety as the victim", columns, tuple(rows), "Drop = 1 - Ret of the safety adapter.")


def _safety_groups(bank: Measurements) -> list[tuple[str, str, pd.DataFrame]]:
    victims = where(bank.pairs, domain=SAFETY)
    groups = victims.groupby(["operator", "other_domain"], sort=True)
    return [(operator, partner, group) for (operator, partner), group in groups]


def _drop(group: pd.DataFrame) -> Estimate:
    return mean_over_pairs(1 - group["ret"].to_numpy(float), list(group["members"]))


def _figures(bank: Measurements) -> tuple[Figure, ...]:
    figures = []
    for operator in bank.main_operators():
        pairs = where(bank.pairs, operator=operator)
        caption = f"Ret under {operator}, victim (row) beside partner (column); n is ordered pairs."
        figures.append(Figure(f"domains-{operator}", caption, _heat_map(pairs, "domain", "other_domain", bank.domains)))
        caption = f"Asymmetry under {operator}: Ret(row <- column) - Ret(column <- row); negative: the row loses more."
        figures.append(Figure(f"asymmetry-{operator}", caption, _asymmetry_map(bank, operator)))
    for operator in bank.main_operators()[:1]:
        pairs = where(bank.pairs, operator=operator)
        names = sorted({*pairs["adapter"], *pairs["other"]}, key=lambda name: (bank.domain(name), name))
        caption = f"Ret under {operator}, adapter by adapter; grey was not measured or is excluded."
        figures.append(Figure(f"adapters-{operator}", caption, _heat_map(pairs, "adapter", "other", names)))
    return (*figures, *_safety_figure(bank))


def _heat_map(pairs: pd.DataFrame, victim: str, other: str, names: Sequence[str]) -> HeatMap:
    means = pairs.groupby([victim, other])["ret"].agg(["mean", "size"])
    found = {key: (float(row["mean"]), int(row["size"])) for key, row in means.iterrows()}
    cells = [[found.get((row, column), (math.nan, 0)) for column in names] for row in names]
    return HeatMap(
        rows=tuple(names),
        columns=tuple(names),
        values=tuple(tuple(cell[0] for cell in row) for row in cells),
        counts=tuple(tuple(cell[1] for cell in row) for row in cells),
        label="Ret",
        row_label="victim",
        column_label="merged with",
        centre=1.0,
        reach=1.0,
    )


def _asymmetry_map(bank: Measurements, operator: str) -> HeatMap:
    cells = [[_differences(bank, operator, row, column)[0] for column in bank.domains] for row in bank.domains]
    return HeatMap(
        rows=bank.domains,
        columns=bank.domains,
        values=tuple(tuple(sum(cell) / len(cell) if cell else math.nan for cell in row) for row in cells),
        counts=tuple(tuple(len(cell) for cell in row) for row in cells),
        label="difference of Ret",
        row_label="i",
        column_label="j",
        centre=0.0,
        reach=0.5,
    )


def _safety_figure(bank: Measurements) -> tuple[Figure, ...]:
    groups = _safety_groups(bank)
    partners = sorted({partner for _, partner, _ in groups})
    drops = {(operator, partner): _drop(group) for operator, partner, group in groups}
    operators = sorted({operator for operator, _, _ in groups})
    columns = tuple(Group(name, tuple(drops.get((name, partner)) for partner in partners)) for name in operators)
    caption = "What safety loses, by partner and operator; error bars: 95 % bootstrap over adapters."
    counts = {
        partner: sorted({drop.n for (_, beside), drop in drops.items() if beside == partner}) for partner in partners
    }
    rows = tuple(f"beside {partner} (n = {', '.join(map(str, counts[partner]))})" for partner in partners)
    return (Figure("safety", caption, Forest(rows, columns, "Drop of safety", 0.0)),) if rows else ()


def _verdicts(bank: Measurements) -> tuple[Verdict, ...]:
    verdicts = []
    for operator in bank.main_operators():
        values, members = _differences(bank, operator, SAFETY, None)
        verdicts.append(
            Verdict(
                key=f"Safety is the victim ({operator})",
                claim="In a pair with a capability adapter, safety is the harmed party.",
                source=f"{PAPER}, Section 5.6 and Appendix G",
                measure="Ret(safety <- other) - Ret(other <- safety), mean over pairs",
                estimate=mean_over_pairs(values, members, "pairs"),
                is_above=False,
            )
        )
    return tuple(verdicts)
