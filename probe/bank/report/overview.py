"""Section 1: what was measured, on what, and what was left out."""

from __future__ import annotations

from collections import Counter

from probe.bank.ceilings import SAFE_COMPATIBILITY
from probe.bank.report.charts import Histogram
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.section import Cell, Figure, Section, Table, escaped, present
from probe.bank.report.statistics import MIN_UNITS, mean_over_pairs
from probe.plan_score import MAX_DROP, TARGET_RETENTION


def overview(bank: Measurements) -> Section:
    """Return facts, adapters, labels by kind, class balance, exclusions and the pilot gate."""
    facts = bank.records.facts
    text = (
        f"Bank **{escaped(facts.bank)}** over {escaped(facts.base_model)}, measured {facts.first_date} to "
        f"{facts.last_date} on {escaped(facts.hardware)}. {len(bank.adapters)} adapters, {len(bank.records.labels)} "
        "labels. Every number below is computed from the records alone.",
        "Ret = (merged - base) / (single - base): 1 keeps all of what the adapter gained, 0 is the base again; it is "
        "never clipped. A label whose single-task gain is under 2 standard errors is left out and counted below. "
        "Intervals are 95 %; where measurements share adapters they are bootstrapped over adapters. A value without "
        f"an interval rests on fewer than {MIN_UNITS} adapters (sets, rows), or does not vary.",
    )
    asked = (
        (bool(facts.pilot), "No pilot gate is recorded."),
        (bool(bank.records.labels), "There are no labels: every other section is empty."),
    )
    gaps = tuple(sentence for is_there, sentence in asked if not is_there)
    tables = (_facts(bank), _adapters(bank), _labels(bank), _balance(bank), _singles(bank), _pilot(bank))
    return Section("overview", "Overview", text, present(tables), _figures(bank), gaps=gaps)


def _facts(bank: Measurements) -> Table:
    facts = bank.records.facts
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items()))
    rows: tuple[tuple[Cell, ...], ...] = (
        *(("command", command) for command in facts.commands),
        ("versions", versions or "not recorded"),
        ("feature schema", facts.feature_schema),
    )
    return Table("facts", "How the records were made", ("what", "told"), rows)


def _adapters(bank: Measurements) -> Table:
    counts = Counter((adapter.domain, adapter.method) for adapter in bank.records.adapters)
    methods = sorted({method for _, method in counts})
    domains = sorted({domain for domain, _ in counts})
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (domain, *(counts[domain, method] for method in methods)) for domain in domains
    )
    return Table("adapters", "Adapters by domain and training method", ("domain", *methods), rows)


def _labels(bank: Measurements) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (action, size, operator), group in bank.labels.groupby(["action", "size", "operator"], sort=True):
        num_sound = int(group["is_sound"].sum())
        rows.append((action, int(size), operator, len(group), num_sound, len(group) - num_sound))
    total = len(bank.labels)
    if total:
        rows.append(("all", None, None, total, len(bank.sound), total - len(bank.sound)))
    return Table(
        "labels",
        "Labels by kind",
        ("action", "members", "operator", "labels", "sound", "excluded (gain < 2 SE)"),
        tuple(rows),
        "A label is one adapter's rows under one module; a pair has two, one for each member.",
    )


def _balance(bank: Measurements) -> Table:
    rows = []
    for operator, group in bank.both_ways.groupby("operator", sort=True):
        known = group[group["is_safe"].notna()]
        safe = mean_over_pairs(known["is_safe"].astype(float), list(known["members"]), "pairs")
        num_safe = int(known["is_safe"].sum())
        rows.append((operator, len(group), num_safe, len(known) - num_safe, len(group) - len(known), safe))
    return Table(
        "balance",
        "Class balance: safe pairs of trained adapters",
        ("operator", "pairs", "safe", "unsafe", "left out (G unknown)", "share safe"),
        tuple(rows),
        f"Safe: mergeability M >= {SAFE_COMPATIBILITY:g} and both Drops <= {MAX_DROP:g}. Pairs of which a direction is "
        "excluded have no class; nor have those with an adapter that was not asked its rows alone, so that its G, and "
        "with it M, is unknown.",
    )


def _singles(bank: Measurements) -> Table:
    rows = tuple(
        (one.name, one.domain, one.num_rows, one.base, one.own, one.gain, one.gain_error, one.normalised_gain)
        for one in bank.singles.values()
    )
    return Table(
        "singles",
        "Adapters alone, on their own evaluation rows",
        ("adapter", "domain", "rows", "base", "single", "gain", "SE of gain", "G"),
        rows,
        "G = gain / (best single adapter of the bank - base), Eq. 1, on the rows that all of them were asked.",
    )


def _pilot(bank: Measurements) -> Table:
    pilot = bank.records.facts.pilot
    columns = tuple(pilot[0]) if pilot else ()
    rows = tuple(tuple(_cell(row.get(column)) for column in columns) for row in pilot)
    return Table("pilot", "Pilot gate", columns, rows)


def _cell(value: object) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _figures(bank: Measurements) -> tuple[Figure, ...]:
    clouds = tuple(
        (f"{name} (n = {len(rows)})", tuple(map(float, rows["ret"])))
        for name in bank.main_operators()
        if len(rows := where(bank.pairs, operator=name))
    )
    if not clouds:
        return ()
    chart = Histogram(clouds, "Ret of one adapter in a pair", TARGET_RETENTION)
    return (Figure("retention", f"Ret over ordered pairs; the line is the safe limit, {TARGET_RETENTION:g}.", chart),)
