"""The data card of records: how they were made, what they hold, and what they do not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields

from probe.bank.ceilings import SAFE_COMPATIBILITY
from probe.bank.gate import safe_pairs
from probe.bank.record_files import DERIVED
from probe.bank.records import AdapterRecord, FeatureRow, Label, Records
from probe.plan_score import MAX_DROP

LIMITS = (
    "One base model, tasks made by programs, adapters of minutes: conflicts of larger models on natural data may "
    "differ.",
    "Merges are asked in float32 as they come from the operator; a served adapter is rounded to bfloat16.",
    "Pairs share adapters, so labels are not independent: resample adapters, not labels.",
    "Retention is a ratio over a gain; labels whose gain is under 2 standard errors are kept here and marked "
    "(`is_sound` 0), and must be left out of any figure.",
    "Where labels differ in rows, the further ones were asked because the verdict on a merge was open: `num_rows` is "
    "not random.",
    "U* is the best of this bank's adapters that were asked the same rows, which are the ordinary ones of the domain "
    "and those trained for these rows: another bank has another U*, G and M.",
    "Safety here means refusing harmful requests of a template and answering benign ones; it is no safety benchmark.",
)


def data_card(records: Records) -> str:
    """Return the card as Markdown; equal records give the same text."""
    parts = (
        _head(records),
        _how(records),
        _holds(records),
        _balance(records),
        _pilot(records),
        "## Limits\n\n" + _bullets(LIMITS),
        _columns(),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(records: Records) -> str:
    facts = records.facts
    return (
        f"# MERGE-PEFT, measured: the {facts.bank} bank\n\n"
        f"Post-merge retention of really trained LoRA adapters of {facts.base_model}. Every number was "
        "measured; nothing is simulated. Read with `probe.bank.record_files.read_records`, or any Parquet reader."
    )


def _how(records: Records) -> str:
    facts = records.facts
    days = facts.first_date if facts.first_date == facts.last_date else f"{facts.first_date} to {facts.last_date}"
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    ranks = sorted({label.rank for label in records.labels if label.action != "single"})
    told = [
        f"When: {days}. On: {facts.hardware}.",
        "Commands: " + "; ".join(f"`{command}`" for command in facts.commands),
        f"Versions: {versions}; feature schema {facts.feature_schema}.",
        f"Output rank of all merges: {', '.join(map(str, ranks))}.",
    ]
    return "## How it was made\n\n" + _bullets(told)


def _holds(records: Records) -> str:
    merges = [label for label in records.labels if label.action != "single"]
    unsound = sum(not label.is_sound for label in merges)
    sizes = Counter(len(label.members) for label in {(one.members, one.operator): one for one in merges}.values())
    told = [
        f"{len(records.adapters)} adapters: {_counts(adapter.domain for adapter in records.adapters)}; by method: "
        f"{_counts(adapter.method for adapter in records.adapters)}.",
        f"{len(merges)} labels (one adapter's rows under one merged module), {unsound} of them not sound (gain under 2 "
        f"standard errors) and to be left out; by action: {_counts(label.action for label in merges)}.",
        f"{len(records.labels) - len(merges)} labels of single adapters, for U*.",
        "Member sets and operators, by size: " + ", ".join(f"{size}: {sizes[size]}" for size in sorted(sizes)) + ".",
        f"Evaluation rows a label: {_counts(label.num_rows for label in merges)}.",
        _features(records),
    ]
    return "## What it holds\n\n" + _bullets(told)


def _features(records: Records) -> str:
    if not records.adapter_features:
        return "No features."
    shares = sorted({rho for row in records.adapter_features for rho in row.rhos})
    return (
        f"Features of {_pairs(records.adapter_features)} adapters and {_pairs(records.pair_features)} pairs, at rho "
        f"{', '.join(f'{rho:g}' for rho in shares)}."
    )


def _pairs(rows: Iterable[FeatureRow]) -> int:
    return len({row.names for row in rows})


def _counts(values: Iterable[object]) -> str:
    return ", ".join(f"{value} {count}" for value, count in sorted(Counter(map(str, values)).items())) or "none"


def _balance(records: Records) -> str:
    safe: dict[str, list[bool]] = {}
    for (_, operator), found in sorted(safe_pairs(records).items()):
        safe.setdefault(operator, []).append(found)
    lines = [
        f"| {operator} | {sum(found)} | {len(found) - sum(found)} | {sum(found) / len(found):.0%} |"
        for operator, found in sorted(safe.items())
    ]
    text = (
        f"Safe: M >= {SAFE_COMPATIBILITY:g} and both drops <= {MAX_DROP:g}. Pairs whose two labels are sound, and "
        "whose gains G are known.\n\n"
        "| operator | safe | not safe | share safe |\n|---|---:|---:|---:|\n"
    )
    return "## Class balance of pairs\n\n" + (text + "\n".join(lines) if lines else "No pair is labelled yet.")


def _pilot(records: Records) -> str:
    if not records.facts.pilot:
        return ""
    lines = [
        f"| {row['name']} | {row['measured']} | {row['wanted']} | {'yes' if row['passed'] else 'no'} |"
        for row in records.facts.pilot
    ]
    return "## Pilot gate\n\n| what | measured | wanted | passed |\n|---|---:|---|---|\n" + "\n".join(lines)


def _columns() -> str:
    derived = [f"`{name}`: {says}." for name, (says, _) in DERIVED.items()]
    own = ", ".join(f"`{one.name}`" for one in fields(Label))
    return (
        "## Columns\n\n"
        "`labels.parquet`: one row a measurement. As documented in `probe.bank.records.Label`: "
        f"{own}. They suffice; the others follow from them:\n\n{_bullets(derived)}\n\n"
        "`adapters.parquet`: `probe.bank.records.AdapterRecord`: "
        + ", ".join(f"`{one.name}`" for one in fields(AdapterRecord))
        + ".\n\n`adapter_features.parquet`, `pair_features.parquet`: names, share of training (`rho`; of either of a "
        "pair `rho_first`, `rho_second`), and the columns of `probe.features` (signal/group/statistic); a pair's begin "
        "with `symmetric:`, `forth:` (first on second) or `back:`. NaN is not measurable, never 0. At a share < 1 "
        "nothing of a later step is used."
    )


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
