"""Section 4: the operators side by side, on the same pairs."""

from __future__ import annotations

import pandas as pd

from probe.bank.report.charts import Forest, Group
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import OURS, Cell, Figure, Section, Table, Verdict
from probe.bank.report.statistics import Estimate, mean_over_pairs

REFERENCE = "ta"
"""What every operator is compared with: on language models hard to beat (arXiv 2511.21437)."""


def over_pairs(bank: Measurements) -> Section:
    """Return Ret by operator over pairs, and the paired difference to task arithmetic."""
    title = "Operators over pairs"
    if bank.pairs.empty:
        return Section("operators", title, gaps=("No sound pair of trained adapters.",))
    differences = {name: difference(bank, name, REFERENCE) for name in bank.operators if name != REFERENCE}
    gaps = tuple(f"{name} and {REFERENCE} share no pair." for name, of in differences.items() if not of.n)
    text = (
        f"Differences are paired: the same victim beside the same partner, less {REFERENCE}. Norm ratio is |merged| "
        "over the mean norm of the members; kept energy is what the cut to the output rank left.",
    )
    return Section(
        "operators",
        title,
        text,
        (_table(bank, differences),),
        _figures(bank, differences),
        _verdicts(differences),
        gaps,
    )


def difference(bank: Measurements, operator: str, reference: str) -> Estimate:
    """Return Ret under an operator less Ret under another, over the ordered pairs that both have."""
    keys = ["members", "adapter"]
    one, other = (where(bank.pairs, operator=name).groupby(keys)["ret"].mean() for name in (operator, reference))
    both = pd.concat([one, other], axis=1, keys=["one", "other"], join="inner").sort_index()
    return mean_over_pairs((both["one"] - both["other"]).to_numpy(float), [members for members, _ in both.index])


def _table(bank: Measurements, differences: dict[str, Estimate]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in bank.operators:
        pairs = where(bank.pairs, operator=name)
        worst = where(bank.both_ways, operator=name)[["first", "second"]].min(axis=1)
        worst_mean = mean_over_pairs(
            worst.to_numpy(float), list(where(bank.both_ways, operator=name)["members"]), "pairs"
        )
        normalised = mean_over_pairs(pairs["normalised"].to_numpy(float), list(pairs["members"]))
        norm, kept = float(pairs["norm_ratio"].mean()), float(pairs["kept"].mean())
        rows.append((name, _ret(pairs), worst_mean, differences.get(name), normalised, norm, kept))
    columns = (
        "operator",
        "Ret",
        "worst of a pair",
        f"Ret less {REFERENCE}",
        "normalised accuracy",
        "norm ratio",
        "kept energy",
    )
    return Table("operators", "Operators", columns, tuple(rows))


def _ret(pairs: pd.DataFrame) -> Estimate:
    return mean_over_pairs(pairs["ret"].to_numpy(float), list(pairs["members"]))


def _figures(bank: Measurements, differences: dict[str, Estimate]) -> tuple[Figure, ...]:
    ret = tuple(_ret(where(bank.pairs, operator=name)) for name in bank.operators)
    rows = tuple(f"{name} (n = {one.n})" for name, one in zip(bank.operators, ret, strict=True))
    bars = "error bars: 95 % bootstrap over adapters."
    figures = [
        Figure("retention", f"Mean Ret over ordered pairs; {bars}", Forest(rows, (Group("Ret", ret),), "Ret", 1.0))
    ]
    if differences:
        names = tuple(f"{name} (n = {one.n})" for name, one in differences.items())
        group = Group(f"less {REFERENCE}", tuple(differences.values()))
        caption = f"The same pairs under each operator, less {REFERENCE}; {bars}"
        figures.append(Figure("differences", caption, Forest(names, (group,), f"Ret less {REFERENCE}", 0.0)))
    return tuple(figures)


def _verdicts(differences: dict[str, Estimate]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            key=f"{name} beats {REFERENCE}",
            claim=f"On the same pairs {name} keeps more than {REFERENCE}.",
            source=OURS,
            measure=f"Ret({name}) - Ret({REFERENCE}), mean over ordered pairs",
            estimate=of,
        )
        for name, of in differences.items()
        if of.n
    )
