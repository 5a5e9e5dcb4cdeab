"""What could be changed about a training, where the records of a bank support it; else nothing is said.

A setting is judged by matched comparisons: two adapters of one domain that are alike but for that setting, and what
their merges kept, operator by operator and beside partners of the same domain. What a predictor would say of other
settings is no evidence: its columns of settings stand for whatever came with them.

References
----------
Iacus, King and Porro, "Causal Inference without Balance Checking: Coarsened Exact Matching", Political Analysis 20
(2012). Intervals: `probe.bank.report.statistics`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from probe.bank.ceilings import Ceilings
from probe.bank.record_files import SHIPPED_RECORDS, read_records
from probe.bank.records import AdapterRecord, Label, Records
from probe.bank.report.statistics import Estimate, mean_over_pairs
from probe.layers import place_of
from probe.predictors.labelled_merges import module_of
from probe.profiles import Metadata

MLP = "attention+mlp"
"""Target modules of an adapter that changes the MLP too."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a training.

    Attributes
    ----------
    of
        Record -> its value, a number.
    is_alike
        (lower, higher) -> whether two values count as the same.
    more, less
        What its change is called.
    """

    key: str
    of: Callable[[AdapterRecord], float]
    is_alike: Callable[[float, float], bool]
    more: str
    less: str


def _within_factor(factor: float) -> Callable[[float, float], bool]:
    return lambda low, high: high <= factor * low


def _within(step: float) -> Callable[[float, float], bool]:
    return lambda low, high: high - low <= step


def _same(low: float, high: float) -> bool:
    return low == high


SETTINGS = (
    Setting("rank", lambda one: one.rank, _same, "a higher rank", "a lower rank"),
    Setting(
        "modules",
        lambda one: one.modules == MLP,
        _same,
        "adapting the MLP beside the attention",
        "adapting the attention alone",
    ),
    # Half as much again is less than between any two rungs of the usual ladder 5e-4, 1e-3, 2e-3.
    Setting(
        "learning_rate",
        lambda one: one.learning_rate,
        _within_factor(1.5),
        "a higher learning rate",
        "a lower learning rate",
    ),
    Setting("num_rows", lambda one: one.num_rows, _within_factor(2.0), "more training rows", "fewer training rows"),
    Setting("replay", lambda one: one.replay, _within(0.25), "more replay of general rows", "less replay"),
)
"""Settings that advice is given on."""
HELD_ALIKE = (*SETTINGS, Setting("scaling", lambda one: one.alpha / one.rank, _within_factor(2.0), "", ""))
"""Settings that two matched adapters have alike, but for one."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What more of a setting does, over matched adapters.

    Attributes
    ----------
    setting
        Key of one of `SETTINGS`.
    retention
        Difference of the mean Ret in their merges (of both members), more less less, with its 95 % interval; n counts
        matched pairs of adapters.
    gain
        Difference of the adapters' own G (Eq. 1), alone.
    num_merges
        Merges behind `retention`.
    low, high
        Least and greatest value among the matched adapters.
    """

    setting: str
    retention: Estimate
    gain: Estimate
    num_merges: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Advice:
    """A change that the records support: its merges would keep more.

    Attributes
    ----------
    setting
        Key of one of `SETTINGS`.
    change
        The change in words.
    retention, gain
        What it does to Ret and to the adapter's own G, as measured.
    """

    setting: str
    change: str
    retention: Estimate
    gain: Estimate
    num_merges: int


def effects_of(records: Records) -> tuple[Effect, ...]:
    """Return the effects of settings that the records can tell: those whose interval leaves out 0."""
    adapters = sorted((one for one in records.adapters if one.method == "sft"), key=lambda one: one.name)
    merges, ceilings = _merges(records), Ceilings(records)
    found = (_effect(setting, adapters, merges, ceilings) for setting in SETTINGS)
    return tuple(one for one in found if one.retention.is_bounded and one.retention.low * one.retention.high > 0)


def shipped_effects() -> tuple[Effect, ...]:
    """Return what the shipped records say of settings; nothing where this build has none."""
    return effects_of(read_records(SHIPPED_RECORDS)) if SHIPPED_RECORDS.is_dir() else ()


def advice(effects: Sequence[Effect], current: Mapping[str, float]) -> tuple[Advice, ...]:
    """Return the changes that help an adapter, the largest effect first.

    Parameters
    ----------
    current
        Setting -> the adapter's own value; one that is not known is left out, and any change of it is mentioned.
    """
    found = []
    for effect in effects:
        setting = next(one for one in SETTINGS if one.key == effect.setting)
        is_more, own = effect.retention.value > 0, current.get(effect.setting)
        # Beyond what was tried the records say nothing.
        is_open = own is None or (own < effect.high if is_more else own > effect.low)
        if is_open:
            change = setting.more if is_more else setting.less
            kept, gain = (_turned(one, is_more) for one in (effect.retention, effect.gain))
            found.append(Advice(effect.setting, change, kept, gain, effect.num_merges))
    return tuple(sorted(found, key=lambda one: -one.retention.value))


def settings_of(metadata: Metadata, modules: Iterable[str]) -> dict[str, float]:
    """Return the settings of a training as far as they are known.

    Parameters
    ----------
    modules
        Names of the base modules that its update changes.
    """
    known = {
        "rank": metadata.rank,
        "modules": any(place_of(module).kind == "mlp" for module in modules),
        "learning_rate": metadata.learning_rate,
        "num_rows": metadata.num_rows,
    }
    return {key: float(value) for key, value in known.items() if value is not None}


Stratum = tuple[str, str | None, str]
"""Operator, norm rule, and domain of the partner."""
Merges = Mapping[str, Mapping[Stratum, Sequence[tuple[str, float]]]]
"""Adapter -> stratum -> (partner, mean Ret of both)."""
Merge = tuple[frozenset[str], str, str | None]
"""Members, operator, norm rule."""


def _merges(records: Records) -> Merges:
    """Return the plain merges of two that have a sound label of both."""
    # Of random adapters nothing can be kept, and they are nobody's partner in a bank.
    domains = {one.name: one.domain for one in records.adapters if one.method != "random"}
    modules: defaultdict[tuple[object, ...], dict[str, Label]] = defaultdict(dict)
    for label in records.labels:
        if label.action == "merge" and len(label.members) == 2 and label.is_sound:
            modules[module_of(label)][label.adapter] = label
    found: defaultdict[str, defaultdict[Stratum, list[tuple[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for labels in modules.values():
        if len(labels) == 2 and labels.keys() <= domains.keys():
            kept = math.fsum(label.retention.value for label in labels.values()) / 2
            for label in labels.values():
                other = next(name for name in label.members if name != label.adapter)
                found[label.adapter][label.operator, label.norm, domains[other]].append((other, kept))
    return found


def _effect(setting: Setting, adapters: Sequence[AdapterRecord], merges: Merges, ceilings: Ceilings) -> Effect:
    differences, gains, members = list[float](), list[float](), list[tuple[str, str]]()
    told, values = set[Merge](), list[float]()
    for low, high in _matched(setting, adapters):
        compared = _difference(low.name, high.name, merges)
        if compared is not None:
            members.append((low.name, high.name))
            differences.append(compared[0])
            gains.append(ceilings.normalised_gain(high.name) - ceilings.normalised_gain(low.name))
            told |= compared[1]
            values += [setting.of(low), setting.of(high)]
    unit = "matched pairs of adapters"
    return Effect(
        setting=setting.key,
        retention=mean_over_pairs(differences, members, unit),
        gain=mean_over_pairs(gains, members, unit),
        num_merges=len(told),
        low=min(values, default=math.nan),
        high=max(values, default=math.nan),
    )


def _matched(setting: Setting, adapters: Sequence[AdapterRecord]) -> Iterator[tuple[AdapterRecord, AdapterRecord]]:
    """Yield adapters of one domain that are alike but for a setting, the one with less of it first."""
    others = [one for one in HELD_ALIKE if one.key != setting.key]
    for pair in combinations(adapters, 2):
        low, high = sorted(pair, key=setting.of)
        is_other = not setting.is_alike(setting.of(low), setting.of(high))
        if low.domain == high.domain and is_other and all(_are_alike(one, pair) for one in others):
            yield low, high


def _are_alike(setting: Setting, pair: Sequence[AdapterRecord]) -> bool:
    return setting.is_alike(*sorted(map(setting.of, pair)))


def _difference(low: str, high: str, merges: Merges) -> tuple[float, set[Merge]] | None:
    """Return the mean difference over strata that both have merges in, and the merges that tell it; None without any.

    A stratum weighs n m / (n + m), the inverse of the variance of a difference of two means.
    """
    total, weight, told = 0.0, 0.0, set[Merge]()
    of_low, of_high = merges.get(low, {}), merges.get(high, {})
    for stratum in sorted(of_low.keys() & of_high.keys(), key=str):
        one, another = ([found for found in side[stratum] if found[0] not in (low, high)] for side in (of_low, of_high))
        if one and another:
            own = len(one) * len(another) / (len(one) + len(another))
            total += own * (_mean(another) - _mean(one))
            weight += own
            for adapter, found in ((low, one), (high, another)):
                told |= {(frozenset((adapter, other)), *stratum[:2]) for other, _ in found}
    return (total / weight, told) if weight else None


def _mean(found: Sequence[tuple[str, float]]) -> float:
    return math.fsum(kept for _, kept in found) / len(found)


def _turned(one: Estimate, is_more: bool) -> Estimate:
    """Return what less of a setting does, where that is the change."""
    return one if is_more else Estimate(-one.value, -one.high, -one.low, one.n, one.unit)
