"""Section 11: other utilities beside Ret: log-likelihood, and normalised accuracy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from probe.bank.records import Label
from probe.bank.report.charts import Cloud, Scatter
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import Cell, Figure, Section, Table
from probe.bank.report.statistics import mean_over_pairs, spearman_over_pairs
from probe.plan_score import TARGET_RETENTION
from probe.retention import gain


def utilities(bank: Measurements) -> Section:
    """Return how far log-likelihood retention and normalised accuracy agree with Ret, over ordered pairs."""
    title = "Utilities: log-likelihood and normalised accuracy beside Ret"
    if bank.pairs.empty:
        return Section("utilities", title, gaps=("No sound pair of trained adapters.",))
    pairs = bank.pairs.assign(likelihood=[_likelihood(label) for label in bank.pairs["label"]])
    text = (
        "Log-likelihood retention is Ret with the mean log-probability of the reference answer as the utility. "
        f"Here a label is safe if what it keeps is at least {TARGET_RETENTION:g}, by either measure.",
    )
    tables = (_likelihood_table(bank, pairs), _safe_table(bank, pairs))
    return Section("utilities", title, text, tables, _figures(bank, pairs))


def _likelihood(label: Label) -> float:
    """Return log-likelihood retention; NaN where the gain is under 2 standard errors, as for scores."""
    gained = gain(label.base_log_likelihoods, label.single_log_likelihoods)
    return label.log_likelihood_retention.value if gained.is_significant else math.nan


def _known(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs[np.isfinite(pairs["likelihood"].to_numpy(float))]


def _likelihood_table(bank: Measurements, pairs: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator in bank.operators:
        of = _known(where(pairs, operator=operator))
        score, likelihood, members = of["ret"].to_numpy(float), of["likelihood"].to_numpy(float), list(of["members"])
        agreement = spearman_over_pairs(score, likelihood, members)
        rows.append(
            (
                operator,
                agreement,
                mean_over_pairs(likelihood - score, members),
                len(where(pairs, operator=operator)) - len(of),
            )
        )
    columns = ("operator", "Spearman with Ret", "log-likelihood Ret less Ret", "undefined")
    return Table(
        "likelihood",
        "Log-likelihood retention",
        columns,
        tuple(rows),
        "Undefined: a gain of log-likelihood under 2 SE.",
    )


def _safe_table(bank: Measurements, pairs: pd.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for operator in bank.operators:
        of = where(pairs, operator=operator)
        by_ret, by_accuracy = ((of[name] >= TARGET_RETENTION).to_numpy(bool) for name in ("ret", "normalised"))
        disagree = mean_over_pairs((by_ret != by_accuracy).astype(float), list(of["members"]))
        both, only_ret = int((by_ret & by_accuracy).sum()), int((by_ret & ~by_accuracy).sum())
        rows.append(
            (
                operator,
                both,
                only_ret,
                int((~by_ret & by_accuracy).sum()),
                int((~by_ret & ~by_accuracy).sum()),
                disagree,
            )
        )
    columns = ("operator", "safe by both", "by Ret only", "by accuracy only", "by neither", "share that disagrees")
    note = "Normalised accuracy forgives what the base could do already: *by accuracy only* is what it hides."
    return Table("safe", "Safe by Ret and by normalised accuracy", columns, tuple(rows), note)


def _figures(bank: Measurements, pairs: pd.DataFrame) -> tuple[Figure, ...]:
    figures = []
    asked = (("likelihood", "log-likelihood Ret"), ("normalised", "normalised accuracy U_merged / U_single"))
    for column, label in asked:
        clouds = tuple(_cloud(where(pairs, operator=name), name, column) for name in bank.main_operators())
        clouds = tuple(cloud for cloud in clouds if cloud.x)
        if clouds:
            caption = f"One point an ordered pair: Ret and {label}."
            figures.append(Figure(column, caption, Scatter(clouds, "Ret", label, has_diagonal=True)))
    return tuple(figures)


def _cloud(pairs: pd.DataFrame, name: str, column: str) -> Cloud:
    known = pairs[np.isfinite(pairs[column].to_numpy(float))]
    return Cloud(f"{name} (n = {len(known)})", tuple(map(float, known["ret"])), tuple(map(float, known[column])))
