"""Advice on settings: found where it is planted, with its size and direction, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from probe.bank.records import AdapterRecord, Label, Records
from probe.forecasting import sentences
from probe.forecasting.advice import SETTINGS, advice, effects_of, settings_of
from probe.profiles import Metadata
from tests.probe.planted import adapter, label, records_of, scores

DOMAINS = ("code", "instruction", "math", "science")
BASE, SINGLE, NUM_ROWS = 10, 60, 100
CHANGES = {
    "rank": (8, 32),
    "modules": ("attention", "attention+mlp"),
    "learning_rate": (5e-4, 2e-3),
    "num_rows": (100, 400),
    "replay": (0.0, 0.5),
}
"""Setting -> less and more of it."""
SIGNS = {"rank": 1, "modules": -1, "learning_rate": -1, "num_rows": 1, "replay": 1}


def bank(
    setting: str, effect: float, per_domain: int = 4, gain: int = 0, mixes: bool = False, seed: int = 1
) -> Records:
    """Return adapters of which every other one has more of a setting, and keeps `effect` more in its merges.

    `gain` is how many rows more those answer alone. With `mixes` they differ in a second setting too.
    """
    adapters = [
        _adapter(f"{domain}-{k}", domain, setting, k % 2, mixes) for domain in DOMAINS for k in range(per_domain)
    ]
    return records_of(adapters, _labels(adapters, setting, effect, gain, np.random.default_rng(seed)))


def _adapter(name: str, domain: str, setting: str, side: int, mixes: bool) -> AdapterRecord:
    changes: dict[str, object] = {setting: CHANGES[setting][side]}
    if setting == "rank":
        changes["alpha"] = 2 * CHANGES["rank"][side]
    if mixes:
        other = next(key for key in CHANGES if key != setting)
        changes |= {other: CHANGES[other][side]}
    return replace(adapter(name, domain), **changes)  # type: ignore[arg-type]


def _labels(
    adapters: list[AdapterRecord], setting: str, effect: float, gain: int, draw: np.random.Generator
) -> Iterator[Label]:
    is_more = {one.name: getattr(one, setting) == CHANGES[setting][1] for one in adapters}
    alone = {name: SINGLE + gain * more for name, more in is_more.items()}
    for name in is_more:
        yield label((name,), name, scores(BASE), scores(alone[name]), scores(alone[name]))
    for first, second in combinations(sorted(is_more), 2):
        # Of both: what a merge keeps grows by half of the effect for each member that has more.
        kept = 0.6 + effect * (is_more[first] + is_more[second]) + draw.normal(0, 0.05)
        for name in (first, second):
            merged = BASE + round((alone[name] - BASE) * kept)
            yield label((first, second), name, scores(BASE), scores(alone[name]), scores(min(merged, NUM_ROWS)))


@pytest.mark.parametrize("setting", CHANGES)
def test_a_planted_effect_is_found_with_its_size_and_direction(setting: str) -> None:
    sign = SIGNS[setting]
    records = bank(setting, 0.15 * sign)
    (effect,) = effects_of(records)
    assert effect.setting == setting
    assert effect.retention.value == pytest.approx(0.15 * sign, abs=0.03)
    assert effect.retention.low < 0.15 * sign < effect.retention.high
    # Four domains, two adapters on each side: four pairs each; the partners differ, but for each other.
    assert effect.retention.n == 16
    assert 100 < effect.num_merges <= len({one.members for one in records.labels if one.action == "merge"})
    (one,) = advice([effect], {})
    row = next(row for row in SETTINGS if row.key == setting)
    assert one.change == (row.more if sign > 0 else row.less)
    assert one.retention.value == pytest.approx(0.15, abs=0.03)
    assert one.retention.low > 0
    told = sentences.of_advice(one)
    assert one.change in told
    assert "16 matched pairs of adapters" in told


def test_where_nothing_is_planted_something_is_said_as_seldom_as_the_interval_promises() -> None:
    """Of 60 banks without an effect 2 were outside the 95 % interval."""
    assert sum(effects_of(bank("rank", 0.0, seed=seed)) != () for seed in range(10)) <= 1


def test_few_adapters_say_nothing_however_large_the_effect() -> None:
    records = bank("rank", 0.3, per_domain=2)
    kept = {one.name for one in records.adapters if one.domain in DOMAINS[:2]}
    few = replace(
        records,
        adapters=tuple(one for one in records.adapters if one.name in kept),
        labels=tuple(one for one in records.labels if set(one.members) <= kept),
    )
    assert effects_of(few) == ()
    assert effects_of(replace(records, labels=())) == ()
    assert effects_of(records_of([], [])) == ()


def test_adapters_that_differ_in_two_settings_are_not_compared() -> None:
    assert effects_of(bank("rank", 0.3, mixes=True)) == ()


def test_adapters_of_other_domains_are_not_compared() -> None:
    records = bank("rank", 0.3)
    own = [replace(one, domain=one.name) for one in records.adapters]
    assert effects_of(replace(records, adapters=tuple(own))) == ()


def test_what_a_change_costs_the_adapter_itself_is_told() -> None:
    (effect,) = effects_of(bank("replay", 0.15, gain=-12))
    (one,) = advice([effect], {})
    # G is the gain over the best one's: 38 rows instead of 50.
    assert one.gain.value == pytest.approx(-12 / 50, abs=0.01)
    told = sentences.of_advice(one)
    assert "alone" in told
    assert "less" in told or "too little is known" in told


def test_nothing_beyond_what_was_tried_is_recommended() -> None:
    (effect,) = effects_of(bank("rank", 0.15))
    assert [one.change for one in advice([effect], {"rank": 8.0})] == ["a higher rank"]
    assert advice([effect], {"rank": 32.0}) == ()
    assert advice([effect], {"rank": 64.0}) == ()
    (effect,) = effects_of(bank("learning_rate", -0.15))
    assert [one.change for one in advice([effect], {"learning_rate": 2e-3})] == ["a lower learning rate"]
    assert advice([effect], {"learning_rate": 5e-4}) == ()


def test_the_settings_of_a_training_are_those_that_it_tells() -> None:
    told = Metadata(rank=8, learning_rate=1e-3)
    attention = ["model.layers.0.self_attn.q_proj"]
    assert settings_of(told, attention) == {"rank": 8.0, "learning_rate": 1e-3, "modules": 0.0}
    assert settings_of(told, [*attention, "model.layers.0.mlp.up_proj"])["modules"] == 1.0


def test_random_partners_do_not_count() -> None:
    records = bank("rank", 0.15)
    weird = [replace(one, method="random") if one.name.startswith("science") else one for one in records.adapters]
    (effect,) = effects_of(replace(records, adapters=tuple(weird)))
    (whole,) = effects_of(records)
    assert effect.retention.n == 12
    assert effect.num_merges < whole.num_merges * 12 / 16
