"""What a running bank has measured, as records that a predictor is fitted to: every verdict is a label.

Read from the registry and the folder of signals, so it works while the bank serves, and without its engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from probe.bank.records import AdapterRecord, Facts, FeatureRow, Label, Records
from probe.features import ADAPTER_COLUMNS, DIRECTED_COLUMNS, SYMMETRIC_COLUMNS, Column
from probe.layers import place_of
from probe.operators.recipe import band_of_module
from probe.vectors import SCHEMA_VERSION, Vector
from router.recipes import action_of
from router.records import BASE, Adapter, Measurement, Part, Recipe, Verdict
from router.registry import Registry
from serve.modules import separate_name
from serve.signals.evidence import FINISHED, AdapterMeasured, Evidence, PairMeasured, Subject

ALONE = Recipe("", (), (), "", 0)
"""Of an adapter that is not merged."""
BANK = "registry"
"""What the records call their bank."""
UNKNOWN = "unknown"
"""Domain of an adapter that was registered without one."""


@dataclass(frozen=True, slots=True)
class Member:
    """A registered adapter, and the most that was measured of it without merging."""

    adapter: Adapter
    subject: Subject
    measured: AdapterMeasured

    @property
    def name(self) -> str:
        """Its name."""
        return self.adapter.name


@dataclass(frozen=True, slots=True)
class Scores:
    """What base, adapter alone and module made of the same rows."""

    base: Measurement
    single: Measurement
    module: Measurement


def registry_records(url: str, signals: Path) -> Records:
    """Return the labels, adapters and features of a bank.

    There is a label for every member of a verdict whose members are registered today, at the revisions that were
    merged and with the evaluation rows that were asked. What a record format cannot say (weights by layer band, more
    than one pruned band) is left out.

    Parameters
    ----------
    url
        SQLAlchemy URL of the registry, such as ``sqlite:///var/registry.db``.
    signals
        The folder ``signals`` of the bank's state folder.

    Raises
    ------
    RegistryError
        The registry cannot be opened, or a newer version wrote it.
    """
    registry = Registry(url)
    registry.migrate()
    try:
        evidence = Evidence(signals)
        members = sorted(_members(registry, evidence), key=lambda member: member.name)
        return Records(
            facts=_facts(registry.verdicts(), members),
            adapters=tuple(_adapter_record(member) for member in members),
            labels=tuple(_labels(registry, members)),
            adapter_features=tuple(_adapter_row(member) for member in members),
            pair_features=tuple(_pair_rows(evidence, members)),
        )
    finally:
        registry.close()


def _members(registry: Registry, evidence: Evidence) -> Iterator[Member]:
    subjects = evidence.subjects()
    for adapter in registry.adapters():
        own = [one for one in subjects if _is_of(one, adapter)]
        measured = evidence.adapter(own[-1]) if own and adapter.evaluation else None
        if measured is not None:
            yield Member(adapter, own[-1], measured)


def _is_of(subject: Subject, adapter: Adapter) -> bool:
    return (subject.revision, subject.domain) == (adapter.revision, adapter.domain) and (
        subject.rows in (None, adapter.calibration)
    )


def _labels(registry: Registry, members: Sequence[Member]) -> Iterator[Label]:
    """Yield what each adapter scores alone, then what each keeps in every merged module that was measured."""
    for member in members:
        if scores := _scores(registry, member, separate_name(member.adapter.revision)):
            yield _label(scores, (member.name,), member.name, "single", ALONE, None, None)
    known = {member.adapter.revision: member for member in members}
    energies = {module.name: module.kept_energy for module in registry.modules()}
    for verdict in registry.verdicts():
        own = [known[revision] for revision in verdict.recipe.members if revision in known]
        if len(own) == len(verdict.recipe.members) > 1:
            yield from _labels_of(registry, verdict, own, energies.get(verdict.module))


def _labels_of(
    registry: Registry, verdict: Verdict, members: Sequence[Member], kept_energy: float | None
) -> Iterator[Label]:
    recipe, names = verdict.recipe, tuple(sorted(member.name for member in members))
    pruned = _pruned_bands(recipe, members)
    if len(pruned) > 1 or "" in pruned or any(isinstance(weight, tuple) for weight in recipe.weights):
        return
    recipe = replace(recipe, weights=tuple(recipe.weights[members.index(one)] for one in sorted(members, key=_name)))
    action = action_of(recipe).value
    for member in members:
        if scores := _scores(registry, member, verdict.module):
            yield _label(scores, names, member.name, action, recipe, next(iter(pruned), None), kept_energy)


def _label(
    scores: Scores,
    names: tuple[str, ...],
    adapter: str,
    action: str,
    recipe: Recipe,
    pruned: str | None,
    kept_energy: float | None,
) -> Label:
    weights = tuple(weight for weight in recipe.weights if not isinstance(weight, tuple))
    return Label(
        members=names,
        adapter=adapter,
        action=action,
        operator=recipe.operator,
        weights=weights if len(set(weights)) > 1 else None,
        pruned=pruned,
        norm=recipe.norm or None,
        hyper_parameters=dict(recipe.hyper_parameters),
        seed=recipe.seed,
        rank=recipe.rank,
        base_scores=scores.base.scores,
        single_scores=scores.single.scores,
        merged_scores=scores.module.scores,
        base_log_likelihoods=_known(scores.base),
        single_log_likelihoods=_known(scores.single),
        merged_log_likelihoods=_known(scores.module),
        kept_energy=math.nan if kept_energy is None else kept_energy,
        norm_ratio=math.nan,
        seconds=math.nan,
    )


def _pruned_bands(recipe: Recipe, members: Sequence[Member]) -> list[str]:
    """Return what was pruned in the words of a label, such as ``safety:lower``; "" for what these words cannot say."""
    dropped: dict[tuple[int, str], set[str]] = {}
    for part in recipe.pruned:
        band = band_of_module(part.module, members[part.member].measured.num_layers)
        dropped.setdefault((part.member, band), set()).add(part.module if part.component is None else "")
    return [
        f"{members[place].name}:{band}" if modules == _modules(members[place], band) else ""
        for (place, band), modules in dropped.items()
    ]


def _modules(member: Member, band: str) -> set[str]:
    measured = member.measured
    return {module for module in measured.modules if band_of_module(module, measured.num_layers) == band}


def _scores(registry: Registry, member: Member, module: str) -> Scores | None:
    """Return what base, adapter alone and module scored on all rows that all three were asked; None without any."""
    rows, names = member.adapter.evaluation, (BASE, separate_name(member.adapter.revision), module)
    parts = []
    for part in Part:
        asked = [registry.measurement(name, rows, part) for name in names] if rows else []
        measured = [one for one in asked if one is not None]
        if len(measured) == len(names):
            parts.append(measured)
    return Scores(*map(_joined, zip(*parts, strict=True))) if parts else None


def _joined(parts: Sequence[Measurement]) -> Measurement:
    scores, likelihoods = (
        tuple(value for part in parts for value in getattr(part, name)) for name in ("scores", "log_likelihoods")
    )
    return replace(parts[0], scores=scores, log_likelihoods=likelihoods)


def _known(measured: Measurement) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in measured.log_likelihoods)


def _name(member: Member) -> str:
    return member.name


def _facts(verdicts: Iterable[Verdict], members: Sequence[Member]) -> Facts:
    dates = sorted(verdict.decided_at.date().isoformat() for verdict in verdicts if verdict.decided_at) or [""]
    bases = {member.subject.base.partition(" ")[0] for member in members}
    return Facts(
        bank=BANK,
        feature_schema=SCHEMA_VERSION,
        base_model=", ".join(sorted(bases)),
        hardware="",
        first_date=dates[0],
        last_date=dates[-1],
        commands=(),
        versions={},
    )


def _adapter_record(member: Member) -> AdapterRecord:
    """Return what is known of an adapter; of its training that is nothing."""
    adapter, kinds = member.adapter, {place_of(module).kind for module in member.measured.modules}
    return AdapterRecord(
        name=adapter.name,
        domain=adapter.domain or UNKNOWN,
        mix="",
        method="sft",
        group=None,
        rank=adapter.rank,
        modules="attention+mlp" if "mlp" in kinds else "attention",
        alpha=0,
        learning_rate=math.nan,
        num_rows=0,
        num_tokens=0,
        num_steps=0,
        replay=0.0,
        a_seed=0,
        data_seed=0,
        is_protected=adapter.protected,
        revision=adapter.revision,
        minutes=math.nan,
        command="",
        device="",
        precision="",
        versions={},
        row_set=adapter.evaluation or "",
    )


def _adapter_row(member: Member) -> FeatureRow:
    values = _named("", ADAPTER_COLUMNS, member.measured.evidence.values)
    return FeatureRow((member.name,), (FINISHED,), values)


def _pair_rows(evidence: Evidence, members: Sequence[Member]) -> Iterator[FeatureRow]:
    lighter = {member.name: replace(member.subject, rows=None) for member in members}
    for first, second in combinations(members, 2):
        views = ((first.subject, second.subject), (lighter[first.name], lighter[second.name]))
        if found := next((one for view in views if (one := evidence.pair(*view))), None):
            yield _pair_row(first, second, found)


def _pair_row(first: Member, second: Member, measured: PairMeasured) -> FeatureRow:
    own = measured.features
    values = _named("symmetric:", SYMMETRIC_COLUMNS, own.symmetric.values)
    values |= _named("forth:", DIRECTED_COLUMNS, own.forth.values) | _named("back:", DIRECTED_COLUMNS, own.back.values)
    return FeatureRow((first.name, second.name), (FINISHED, FINISHED), values)


def _named(prefix: str, columns: Sequence[Column], values: Vector) -> dict[str, float]:
    return {f"{prefix}{column.name}": value for column, value in zip(columns, values.tolist(), strict=True)}
