"""The plan of measurements: the same every time, spread from its first entry, nothing asked twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest

from probe.bank.labelling.follow_up import closer, reworked
from probe.bank.labelling.measurement import Measurement, MeasurementError, Stage, merged
from probe.bank.labelling.plan import (
    LABEL_PLANS,
    OPERATORS_FOR_ALL,
    OPERATORS_WITH_DATA,
    LabelPlan,
    planned,
)
from probe.bank.records import AdapterRecord, Label
from tests.tiny import NUM_LAYERS, random_update

DOMAINS = ("code", "instruction", "math", "safety", "science")
CPU = LABEL_PLANS["cpu"]


def adapter(name: str, domain: str, method: str = "sft", **fields: object) -> AdapterRecord:
    known = {
        "name": name,
        "domain": domain,
        "mix": name[-1],
        "method": method,
        "group": None,
        "rank": 8,
        "modules": "attention",
        "alpha": 16,
        "learning_rate": 1e-3,
        "num_rows": 100,
        "num_tokens": 1000,
        "num_steps": 10,
        "replay": 0.0,
        "a_seed": 0,
        "data_seed": 0,
        "is_protected": domain == "safety",
        "revision": name,
        "minutes": 1.0,
        "command": "",
        "device": "cpu",
        "precision": "float32",
        "versions": {},
    } | fields
    return AdapterRecord(**known, row_set=f"{domain} {known['mix']}")  # type: ignore[arg-type]


BANK = (
    *(adapter(f"{domain}-{k}", domain, a_seed=100 * i + k) for i, domain in enumerate(DOMAINS) for k in range(5)),
    *(adapter(f"safety-dpo-{k}", "safety", "dpo", group="polite", mix="0", a_seed=1000 + k) for k in range(8)),
    *(adapter(f"osrm-{domain}", domain, "osrm", a_seed=2000 + i) for i, domain in enumerate(DOMAINS)),
    *(adapter(f"fly-{domain}", domain, "flylora", a_seed=3000 + i) for i, domain in enumerate(DOMAINS)),
    adapter("random-0", "math", "random", a_seed=4000),
    adapter("math-twin", "math", a_seed=200),
)
DOMAIN = {one.name: one.domain for one in BANK}
METHOD = {one.name: one.method for one in BANK}
PLAN = planned(BANK, CPU)


def of(stage: Stage) -> list[Measurement]:
    return [measurement for measurement in PLAN if measurement.stage == stage]


def test_the_same_bank_gives_the_same_plan_in_any_order_and_another_seed_another() -> None:
    assert planned(BANK[::-1], CPU) == PLAN
    assert planned(BANK, replace(CPU, seed=1)) != PLAN


def test_nothing_is_asked_twice_and_what_is_most_worth_comes_first() -> None:
    assert len(set(PLAN)) == len(PLAN)
    stages = [measurement.stage for measurement in PLAN]
    later = (Stage.REWORKED, Stage.CLOSER, Stage.PROOF)
    assert list(dict.fromkeys(stages)) == [stage for stage in Stage if stage not in later]

    assert stages == sorted(stages, key=list(Stage).index)


def test_the_plan_of_a_proof_holds_the_adapters_alone_and_every_group() -> None:
    asked = planned(BANK, LABEL_PLANS["held-out"])
    assert len(set(asked)) == len(asked)
    assert {one.stage for one in asked} == {Stage.OWN, Stage.PROOF}


def test_every_adapter_is_asked_alone_and_the_base_once_for_shared_rows() -> None:
    singles = [one for one in of(Stage.OWN) if one.members]
    assert {one.members[0] for one in singles} == set(DOMAIN)
    assert all(one.members == one.asked for one in singles)
    asked = [one.asked[0] for one in of(Stage.OWN) if not one.members]
    rows = {one.name: one.row_set for one in BANK}
    assert Counter(rows[name] for name in asked) == Counter(set(rows.values()))


def test_ceilings_come_from_adapters_of_the_same_domain_on_other_rows() -> None:
    rows = {one.name: one.row_set for one in BANK}
    found = [(one.members[0], one.asked[0]) for one in of(Stage.SINGLES)]
    assert found
    for member, asked in found:
        assert DOMAIN[member] == DOMAIN[asked]
        assert rows[member] != rows[asked]
        assert METHOD[member] == "sft"
    assert len({(member, rows[asked]) for member, asked in found}) == len(found)


def test_pairs_are_spread_over_domains_and_adapters_from_the_first_one_on() -> None:
    pairs = list(dict.fromkeys(one.members for one in of(Stage.PAIRS)))
    assert len(pairs) == 120
    strata = [tuple(sorted(DOMAIN[name] for name in pair)) for pair in pairs]
    assert set(strata[:15]) == {(a, b) for a in DOMAINS for b in DOMAINS if a <= b}
    assert set(Counter(strata).values()) == {8}
    uses = Counter(name for pair in pairs for name in pair)
    assert max(uses.values()) - min(uses.values()) <= 4
    ordinary = {one.name for one in BANK if one.method == "sft"}
    assert set(uses) == ordinary


def test_both_sides_of_a_pair_are_asked_under_the_fixed_operators_together() -> None:
    stage = of(Stage.PAIRS)
    assert all(one.asked == one.members for one in stage)
    assert [one.operator for one in stage] == ["ta", "mean"] * 120
    assert {one.norm for one in stage if one.operator == "ta"} == {"none"}


def test_every_pair_gets_one_more_operator_in_turn() -> None:
    stage = of(Stage.OPERATORS)
    assert Counter(one.operator for one in stage) == dict.fromkeys(CPU.rotating_operators, 24)
    assert {one.members for one in stage} == {one.members for one in of(Stage.PAIRS)}
    everything = planned(BANK, LABEL_PLANS["large"])
    ordinary = [one for one in BANK if one.method == "sft"]
    count = len(ordinary) * (len(ordinary) - 1) // 2 - 1  # the twins are a control
    pairs = [one for one in everything if one.stage in (Stage.PAIRS, Stage.OPERATORS)]
    assert Counter(one.operator for one in pairs) == dict.fromkeys(OPERATORS_FOR_ALL, count)


def test_sets_have_every_size_and_operator() -> None:
    stage = of(Stage.SETS)
    assert len({one.members for one in stage}) == 60
    assert Counter(len(one.members) for one in stage) == {3: 20, 4: 20, 5: 20}
    assert {one.operator for one in stage[:7]} == set(OPERATORS_FOR_ALL)
    assert {(len(one.members), one.operator) for one in stage} == {(k, o) for k in (3, 4, 5) for o in OPERATORS_FOR_ALL}
    whole = sum(len({DOMAIN[name] for name in one.members}) == len(one.members) for one in stage)
    assert 25 <= whole < 60


def test_sets_of_all_domains_meet_every_operator_and_the_baselines_their_own() -> None:
    stage = of(Stage.DOMAINS)
    sft = [one for one in stage if one.members[0] not in {"fly-code", "osrm-code"} and "-twin" not in one.members[0]]
    plain = [one for one in sft if not one.members[0].startswith(("fly", "osrm"))]
    assert len({one.members for one in plain}) == 3
    for one in plain:
        assert sorted(DOMAIN[name] for name in one.members) == list(DOMAINS)
    assert Counter(one.operator for one in plain) == dict.fromkeys((*OPERATORS_FOR_ALL, *OPERATORS_WITH_DATA), 3)
    for method in ("fly", "osrm"):
        own = [one for one in stage if one.members[0].startswith(method)]
        assert [one.operator for one in own] == ["ta", "mean"]
        assert own[0].members == tuple(f"{method}-{domain}" for domain in DOMAINS)


def test_preference_groups_are_composed_in_growing_prefixes() -> None:
    stage = of(Stage.PREFERENCES)
    assert [(len(one.members), one.operator) for one in stage] == [(n, o) for n in (2, 4, 8) for o in ("ta", "gam")]
    assert set(stage[0].members) < set(stage[2].members) < set(stage[4].members)


def test_random_adapters_are_never_asked_and_twins_are_controls() -> None:
    stage = of(Stage.CONTROLS)
    with_random = [one for one in stage if "random-0" in one.members]
    assert len(with_random) == 4
    assert all(one.asked == tuple(set(one.members) - {"random-0"}) for one in with_random)
    assert {one.members for one in stage if "random-0" not in one.members} == {("math-0", "math-twin")}


def test_a_bank_too_small_for_the_plan_gives_what_it_can() -> None:
    few = planned(BANK[:4], CPU)
    assert {len(one.members) for one in few if one.stage == Stage.SETS} == {3, 4}
    assert not [one for one in few if one.stage == Stage.DOMAINS]


def label(members: tuple[str, str], victim: str, kept: int, operator: str = "ta") -> Label:
    scores = tuple(float(k < kept) for k in range(40))
    zeros = (0.0,) * 40
    return Label(
        members=members,
        adapter=victim,
        action="merge",
        operator=operator,
        weights=None,
        pruned=None,
        norm="none",
        hyper_parameters={},
        seed=0,
        rank=32,
        base_scores=zeros,
        single_scores=(1.0,) * 40,
        merged_scores=scores,
        base_log_likelihoods=zeros,
        single_log_likelihoods=zeros,
        merged_log_likelihoods=zeros,
        kept_energy=1.0,
        norm_ratio=1.0,
        seconds=1.0,
    )


def test_conflicting_pairs_are_reworked_for_victims_of_each_domain() -> None:
    math, safety = ("math-0", "math-1"), ("math-0", "safety-0")
    labels = [
        label(math, "math-0", 5),
        label(math, "math-1", 10),
        label(("code-0", "math-2"), "math-2", 7),
        label(("code-0", "math-2"), "code-0", 39),  # keeps enough
        label(safety, "safety-0", 30),
        label(("code-1", "math-3"), "math-3", 1, "mean"),  # another operator
    ]
    found = reworked(labels, BANK, LabelPlan(num_reworked=2, num_near=0))
    assert list(dict.fromkeys(one.members for one in found)) == [math, safety]
    of_safety = [one for one in found if one.members == safety]
    assert [one.weights for one in of_safety if one.weights] == [(0.5, 1.0), (1.0, 0.5), (0.25, 1.0)]
    pruned = [one.pruned for one in of_safety if one.pruned]
    assert pruned == [f"{name}:{band}" for name in safety for band in ("lower", "middle", "upper")]
    assert {one.action for one in of_safety} == {"reweight", "prune"}


def test_pairs_that_nearly_pass_are_reworked_after_the_worst() -> None:
    labels = [
        label(("math-0", "math-1"), "math-1", 2),
        label(("math-0", "math-2"), "math-2", 20),
        label(("math-0", "math-2"), "math-0", 33),  # counts by its worse member
        label(("math-0", "math-3"), "math-3", 30),
        label(("math-1", "math-3"), "math-3", 38),  # keeps enough
    ]
    found = reworked(labels, BANK, LabelPlan(num_reworked=1, num_near=2))
    assert list(dict.fromkeys(one.members for one in found)) == [
        ("math-0", "math-1"),
        ("math-0", "math-3"),
        ("math-0", "math-2"),
    ]


def test_further_rows_are_asked_of_bases_and_adapters_alone_and_then_where_the_verdict_is_closest() -> None:
    pair = ("math-0", "math-1")
    merges = {operator: merged(Stage.PAIRS, pair, operator) for operator in ("ta", "mean", "ties")}
    kept = {"ta": 33, "mean": 34, "ties": 5}
    found = closer(
        {one: [label(pair, "math-0", kept[operator], operator)] for operator, one in merges.items()}, BANK, LabelPlan()
    )
    assert all(one.is_further for one in found)
    assert [one.members for one in found] == [(), ("math-0",), pair, pair]
    assert [one.operator for one in found[2:]] == ["mean", "ta"], "34 of 40 is closer to 0.85 than 33"


def test_no_further_rows_are_asked_where_they_could_not_turn_the_verdict() -> None:
    pair = ("math-0", "math-1")
    first, second = (merged(Stage.PAIRS, pair, operator) for operator in ("ta", "mean"))
    decided = [label(pair, "math-0", 34), label(pair, "math-1", 5)]
    open_twice = [label(pair, "math-0", 33, "mean"), label(pair, "math-1", 40, "mean")]
    found = closer({first: decided, second: open_twice}, BANK, LabelPlan())
    assert [(one.operator, one.asked) for one in found if len(one.members) > 1] == [("mean", ("math-0",))]


def test_a_pruned_band_is_every_module_of_its_layers() -> None:
    updates = {"a": random_update(0), "b": random_update(1)}
    lower = Measurement(Stage.REWORKED, ("a", "b"), ("a", "b"), "ta", pruned="b:lower").recipe(updates, 8)
    assert {part.member for part in lower.pruned} == {1}
    assert {part.module.split(".")[2] for part in lower.pruned} == {"0"}
    assert len(lower.pruned) == len(updates["b"].factors) // NUM_LAYERS
    with pytest.raises(MeasurementError, match="member:band"):
        Measurement(Stage.REWORKED, ("a", "b"), ("a",), "ta", pruned="c:lower").recipe(updates, 8)


def test_sets_are_made_of_measured_pairs_where_they_can_be() -> None:
    pairs = {one.members for one in PLAN if one.stage == Stage.PAIRS}
    sets = {one.members for one in PLAN if one.stage == Stage.SETS}
    complete = [members for members in sets if pairs.issuperset(combinations(members, 2))]
    assert len(complete) >= len(sets) / 4
