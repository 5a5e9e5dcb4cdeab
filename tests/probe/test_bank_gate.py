"""The pilot gate, on planted numbers."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from probe.bank.gate import GateError, explained_by_domains, pilot_gate, safe_pairs, safe_shares
from probe.bank.records import AdapterRecord, Label, Records
from tests.probe.planted import adapter, label, records_of, scores

DOMAINS = {"m": "math", "n": "math", "c": "code", "d": "code", "s": "science"}
ADAPTERS = [adapter(name, domain, mix=name) for name, domain in DOMAINS.items()]
BASE, OWN = scores(10), scores(70)


def own(name: str, base: int = 10, single: int = 70) -> Label:
    return label((name,), name, scores(base), scores(single), scores(single))


def bank(kept: dict[tuple[str, str], int], operator: str = "ta", **changed: Label) -> Records:
    """Return records in which the victim of (victim, other) keeps so many of 60 points; 0.85 is 51."""
    labels = [
        label(tuple(sorted(pair)), pair[0], BASE, OWN, scores(10 + points), operator) for pair, points in kept.items()
    ]
    return records_of(ADAPTERS, [*(changed.get(name) or own(name) for name in DOMAINS), *labels])


def everything(points: int) -> dict[tuple[str, str], int]:
    return dict.fromkeys(permutations(DOMAINS, 2), points)


def passed(records: Records) -> dict[str, bool]:
    return {row.name: row.passed for row in pilot_gate(records)}


def mixed() -> dict[tuple[str, str], int]:
    """Half of the cross-domain pairs keep all; which ones, no domain name tells."""
    points = everything(60)
    for first, second in (("m", "c"), ("n", "d"), ("m", "s"), ("c", "s")):
        points[first, second] = points[second, first] = 20
    return points


def test_a_bank_between_the_limits_passes_every_condition() -> None:
    rows = pilot_gate(bank(mixed()))
    assert [row.passed for row in rows] == [True] * 6
    assert rows[0].measured == "0.10 (s)"
    assert rows[4].measured == "50% (ta)"
    assert "20 ordered pairs" in rows[5].measured
    assert json.loads(json.dumps(rows[0].as_json()))["wanted"] == "<= 0.6"


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        (own("c", base=61, single=98), "highest base score"),
        (own("c", single=49), "lowest single score"),
        (own("c", single=99), "highest single score"),
        (own("c", base=45, single=60), "lowest gain in standard errors"),
    ],
)
def test_one_adapter_outside_a_limit_fails_its_condition_and_is_named(changed: Label, failed: str) -> None:
    rows = pilot_gate(bank(mixed(), c=changed))
    assert [row.name for row in rows if not row.passed] == [failed]
    assert "(c)" in next(row.measured for row in rows if not row.passed)


def test_only_ordinary_adapters_are_gated() -> None:
    records = bank(mixed())
    weak: AdapterRecord = adapter("w", "math", mix="w", method="dpo")
    assert all(passed(records_of([*ADAPTERS, weak], [*records.labels, own("w", single=11)])).values())


@pytest.mark.parametrize(("points", "share"), [(60, 1.0), (20, 0.0)])
def test_a_bank_without_conflict_or_full_of_it_fails(points: int, share: float) -> None:
    records = bank(everything(points))
    assert safe_shares(records) == {"ta": share}
    assert not passed(records)["cross-domain pairs safe under the best operator"]


def test_the_best_operator_is_the_one_with_most_safe_pairs() -> None:
    bad, good = bank(everything(20), "mean"), bank(mixed(), "ties")
    records = records_of(ADAPTERS, [*bad.labels, *(one for one in good.labels if one.operator == "ties")])
    assert safe_shares(records) == {"mean": 0.0, "ties": 0.5}
    assert pilot_gate(records)[4].measured == "50% (ties)"


def test_retention_that_domains_alone_foretell_fails() -> None:
    points = {
        (victim, other): {"math": 0, "code": 20, "science": 40}[DOMAINS[victim]]
        + {"math": 10, "code": 5, "science": 0}[DOMAINS[other]]
        for victim, other in permutations(DOMAINS, 2)
    }
    records = bank(points)
    pairs = [one for one in records.labels if len(one.members) == 2]
    assert explained_by_domains(pairs, DOMAINS) == pytest.approx(1.0)
    assert not passed(records)["variance of Ret explained by domain names alone"]


def test_the_share_explained_is_adjusted_for_the_number_of_domains() -> None:
    """Against the formula, from group means: victims' domains alone, and an even design."""
    points = {(victim, other): 10 + 7 * ((3 * i) % 5) for i, (victim, other) in enumerate(permutations(DOMAINS, 2))}
    pairs = [one for one in bank(points).labels if len(one.members) == 2]
    names = {name: name for name in DOMAINS}  # every adapter its own domain: 5 + 5 - 1 parameters of 20 labels
    raw = 1 - (1 - explained_by_domains(pairs, names)) * (20 - 9) / 19
    assert 0 < raw < 1
    assert explained_by_domains(pairs, names) < raw


def test_too_few_records_are_named() -> None:
    with pytest.raises(GateError, match="own rows"):
        pilot_gate(records_of(ADAPTERS, []))
    with pytest.raises(GateError, match="cross-domain"):
        pilot_gate(bank({("m", "n"): 60, ("n", "m"): 60}))


def test_pairs_of_unknown_gain_are_left_out() -> None:
    known = bank(everything(60))
    without = records_of(ADAPTERS, [one for one in known.labels if one.members != ("s",)])
    assert set(safe_pairs(known)) - set(safe_pairs(without)) == {pair for pair in safe_pairs(known) if "s" in pair[0]}
    assert safe_shares(without) == {"ta": 1.0}
