"""Scheduled re-checks: when a serving module is measured again, on what, and what becomes of a breach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from probe.rows import Answer, Row, write_rows
from router.records import Part, PlanState, Verdict
from tests.serve.bank import NUM_ROWS, TinyBank
from tests.serve.test_rollback import placements, rollbacks

HOUR = timedelta(hours=1)


@dataclass
class Listening:
    """Notes which modules are asked for rows of evaluation sets."""

    honest: Callable[[str | None, Row], Answer]
    asked: list[str] = field(default_factory=list)

    def __call__(self, module: str | None, row: Row) -> Answer:
        if ":" in row.prompt:
            self.asked.append(module or "base")
        return self.honest(module, row)


def merged(bank: TinyBank, *names: str) -> Verdict:
    """Register adapters, let the bank merge them, and return the verdict on the module that serves the first."""
    for name in names:
        bank.register(name)
    bank.round()
    return verdict_on(bank, names[0])


def verdict_on(bank: TinyBank, name: str) -> Verdict:
    module = bank.registry.table().route(name).module
    return next(verdict for verdict in bank.registry.verdicts() if verdict.module == module)


def age(bank: TinyBank, verdict: Verdict, by: timedelta) -> None:
    """Let a verdict be as old as if it had been decided that much earlier."""
    assert verdict.decided_at is not None
    bank.registry.put_verdict(replace(verdict, decided_at=verdict.decided_at - by))


def listen(bank: TinyBank) -> list[str]:
    bank.engine.respond = listening = Listening(bank.respond)
    return listening.asked


def test_a_module_is_asked_again_when_its_time_has_come_and_not_before(bank: TinyBank) -> None:
    verdict = merged(bank, "a", "b")
    asked = listen(bank)
    bank.round()
    assert asked == []
    age(bank, verdict, 1.01 * HOUR)
    bank.round()
    assert set(asked) == {"base", verdict.module, *(f"separate-{member[:16]}" for member in verdict.recipe.members)}
    asked.clear()
    bank.round()
    assert asked == []
    assert verdict_on(bank, "a").passed
    assert all(replica.resident == bank.registry.table().modules for replica in bank.engine.replicas)


def test_a_busy_engine_is_left_alone_for_twice_the_time(bank: TinyBank) -> None:
    verdict = merged(bank, "a", "b")
    bank.engine.replicas[1].in_flight[verdict.module] = 1
    asked = listen(bank)
    age(bank, verdict, 1.5 * HOUR)
    bank.round()
    assert asked == []
    age(bank, verdict, 2.01 * HOUR)
    bank.round()
    assert verdict.module in asked


def test_one_module_a_tick_the_one_that_was_checked_longest_ago(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__max_trials": 9, "policy__max_group_size": 2})
    for name in "abcd":
        bank.register(name)
    bank.round()
    modules = sorted(bank.registry.table().modules)
    assert len(modules) == 2
    found = {verdict.module: verdict for verdict in bank.registry.verdicts() if verdict.module in modules}
    age(bank, found[modules[0]], 1.1 * HOUR)
    age(bank, found[modules[1]], 1.2 * HOUR)
    asked = listen(bank)
    bank.round()
    assert modules[1] in asked
    assert modules[0] not in asked
    bank.round()
    assert modules[0] in asked
    bank.registry.close()


@pytest.mark.parametrize("mode", ["auto", "approve"])
def test_a_breach_takes_the_group_apart_by_itself_and_is_a_label(tmp_path: Path, mode: str) -> None:
    bank = TinyBank(tmp_path)
    verdict = merged(bank, "a", "b")
    bank.registry.close()
    after = TinyBank(tmp_path, kept={"b": 0.5}, overrides={"policy__mode": mode})
    after.engine.replicas = bank.engine.replicas
    age(after, verdict, 1.1 * HOUR)
    epoch = after.registry.epoch()
    after.round()
    assert placements(after) == {"a": "separate", "b": "separate"}
    assert after.registry.epoch() > epoch
    label = next(found for found in after.registry.verdicts() if found.recipe.key == verdict.recipe.key)
    assert not label.passed
    assert "b keeps 0.50 of its gain" in label.reason
    (event,) = [event for event in after.registry.events() if event.kind == "breach"]
    assert event.subject == verdict.module
    assert event.message.startswith("a + b is taken apart, since it failed its re-check: b keeps 0.50")
    assert rollbacks(after, "breach") == 1
    assert after.registry.plans(states=(PlanState.WAITING,)) == ()
    after.round()
    assert placements(after) == {"a": "separate", "b": "separate"}
    after.registry.close()


def test_rows_that_a_member_brought_since_are_the_ones_that_are_asked(bank: TinyBank) -> None:
    verdict = merged(bank, "a", "b")
    rows = bank.folder / "harder.jsonl"
    write_rows(rows, [Row(f"b:{number}", "x", "forced") for number in range(NUM_ROWS // 2, NUM_ROWS)])
    bank.register("b", evaluation=str(rows))
    bank.kept["b"] = 0.6  # of all rows, so 0.2 of the harder half
    bank.round()
    assert not next(one for one in bank.registry.verdicts() if one.recipe.key == verdict.recipe.key).passed
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert any(event.kind == "breach" for event in bank.registry.events())


def test_an_engine_that_fails_in_the_middle_leaves_everything_as_it_was(bank: TinyBank) -> None:
    verdict = merged(bank, "a", "b")
    age(bank, verdict, 1.1 * HOUR)
    before = bank.state()
    evaluation = bank.registry.adapter("a").evaluation
    gate = bank.registry.measurement("base", evaluation, Part.GATE)

    def respond(module: str | None, row: Row) -> Answer:
        if module == verdict.module and ":" in row.prompt:
            raise RuntimeError("planted")
        return Answer(is_argmax=False, log_likelihood=-9.0 if module is None else -float(sum(map(ord, module))))

    bank.engine.respond = respond
    with pytest.raises(RuntimeError, match="planted"):
        bank.tick()
    after = bank.state()
    assert {key: after[key] for key in ("table", "verdicts", "modules")} == {
        key: before[key] for key in ("table", "verdicts", "modules")
    }
    assert bank.registry.measurement("base", evaluation, Part.GATE) == gate


def test_a_module_that_does_nothing_any_more_is_a_breach(bank: TinyBank) -> None:
    verdict = merged(bank, "a", "b")
    age(bank, verdict, 1.1 * HOUR)
    honest = bank.respond
    bank.engine.respond = lambda module, row: honest(None if (module or "").startswith("merged") else module, row)
    bank.round()
    assert [event.kind for event in bank.registry.events()].count("breach") == 1
    assert placements(bank) == {"a": "separate", "b": "separate"}
