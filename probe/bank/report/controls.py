"""Section 12: controls: what random adapters and shared seeds do to signals, and what they do to retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from probe.bank.report.charts import Forest, Group
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.pair_columns import PairColumn, PairMatrices, pair_matrices
from probe.bank.report.section import OURS, Cell, Figure, Section, Table, Verdict, present
from probe.bank.report.statistics import Estimate, mean_over_pairs
from probe.plan_score import MAX_DROP

SIGNALS = (
    "cosine/all/mean",
    "absolute_cosine/all/mean",
    "overlap_in/all/mean",
    "overlap_out/all/mean",
    "gradient_cosine/all/mean",
)
ORDINARY_ACROSS = "trained, different domains"
ORDINARY_WITHIN = "trained, same domain"
RANDOM = "with a random adapter"
SHARED = "shared A seed"
KINDS = (ORDINARY_ACROSS, ORDINARY_WITHIN, RANDOM, SHARED)


def controls(bank: Measurements) -> Section:
    """Return signals and Ret of pairs by kind: ordinary, random, shared seed."""
    title = "Controls: random adapters and shared seeds"
    pairs = where(where(bank.sound, action="merge"), size=2)
    pairs = pairs.assign(kind=[_kind(bank, members) for members in pairs["members"]])
    matrices = pair_matrices(bank.records)
    signals = _signals(bank, matrices)
    tables = present((_ret_table(pairs), _signal_table(signals)))
    measured = {*pairs["kind"], *(kind for _, kind in signals)}
    gaps = tuple(f"Nothing was measured of this kind of pair: {kind}." for kind in KINDS[2:] if kind not in measured)
    text = (
        "A random adapter learnt nothing: what it takes from its partner is what any perturbation of that size takes. "
        "A shared A seed makes updates look alike whatever they learnt; those pairs are left out everywhere else.",
    )
    return Section("controls", title, text, tables, _figures(bank, pairs), _verdicts(pairs, signals), gaps)


def _kind(bank: Measurements, members: Sequence[str]) -> str | None:
    methods = bank.methods(members)
    if "random" in methods:
        return RANDOM
    if methods != {"sft"}:
        return None
    if bank.shares_a_seed(members):
        return SHARED
    return ORDINARY_WITHIN if len({bank.domain(name) for name in members}) == 1 else ORDINARY_ACROSS


def _ret(pairs: pd.DataFrame) -> Estimate | None:
    return mean_over_pairs(pairs["ret"].to_numpy(float), list(pairs["members"])) if len(pairs) else None


def _ret_table(pairs: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator, of in pairs.groupby("operator", sort=True):
        cells = [_ret(where(of, kind=kind)) for kind in KINDS]
        if any(cells[2:]):
            rows.append((operator, *cells))
    return Table("retention", "Ret by kind of pair", ("operator", *KINDS), tuple(rows))


def _signals(bank: Measurements, matrices: PairMatrices) -> dict[tuple[str, str], Estimate]:
    """Return (signal, kind) -> mean over unordered pairs."""
    names = [name for name in matrices.names if name in bank.adapters]
    pairs = [(one, other) for one in names for other in names if one < other]
    place = {name: index for index, name in enumerate(matrices.names)}
    found: dict[tuple[str, str], Estimate] = {}
    for signal in SIGNALS:
        matrix = matrices.of(PairColumn("pair", signal))
        for kind in KINDS if matrix is not None else ():
            here = [pair for pair in pairs if _kind(bank, pair) == kind]
            values = np.asarray([matrix[place[a], place[b]] for a, b in here])  # type: ignore[index]
            known = [index for index, value in enumerate(values) if np.isfinite(value)]
            if known:
                found[signal, kind] = mean_over_pairs(values[known], [here[index] for index in known], "pairs")
    return found


def _signal_table(signals: Mapping[tuple[str, str], Estimate]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for signal in SIGNALS:
        cells = [signals.get((signal, kind)) for kind in KINDS]
        if any(cells):
            rows.append((signal, *cells))
    return Table("signals", "Signals by kind of pair", ("signal", *KINDS), tuple(rows))


def _figures(bank: Measurements, pairs: pd.DataFrame) -> tuple[Figure, ...]:
    if not {RANDOM, SHARED} & {*pairs["kind"]}:
        return ()
    groups = tuple(
        Group(name, tuple(_ret(where(where(pairs, operator=name), kind=kind)) for kind in KINDS))
        for name in bank.main_operators()
    )
    caption = "Ret of the trained member by kind of pair; error bars: 95 % bootstrap over adapters."
    rows = tuple(f"{kind} (n = {len(where(pairs, kind=kind))} labels)" for kind in KINDS)
    return (Figure("retention", caption, Forest(rows, groups, "Ret", 1.0)),) if groups else ()


def _verdicts(pairs: pd.DataFrame, signals: Mapping[tuple[str, str], Estimate]) -> tuple[Verdict, ...]:
    random = where(where(pairs, kind=RANDOM), operator="ta")
    verdicts = []
    if len(random):
        verdicts.append(
            Verdict(
                key="Random adapter",
                claim=f"A random adapter of the same norm leaves its partner alone: at most {MAX_DROP:.0%} is lost.",
                source=OURS,
                measure="Ret beside a random adapter under ta",
                estimate=_ret(random),
                null=1 - MAX_DROP,
            )
        )
    shared = signals.get(("overlap_in/all/mean", SHARED))
    if shared is not None:
        verdicts.append(
            Verdict(
                key="Shared seed",
                claim="A shared A seed fools the overlap: it exceeds half of its range whatever was learnt.",
                source=OURS,
                measure="mean overlap_in above chance of pairs with a shared A seed",
                estimate=shared,
                null=0.5,
            )
        )
    return tuple(verdicts)
