"""The controller's loop on a fake engine: what is served, measured, merged, refused, removed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from probe.operators import MergeError
from probe.records import MergeProbeError
from router.engine import EngineError
from router.records import PlanState, Recipe, Verdict
from serve.merging import MergeInterrupted, MergeReport, merge_files
from tests.serve.bank import TinyBank


def placements(bank: TinyBank) -> dict[str, str]:
    return {route.adapter: route.placement.value for route in bank.registry.table().routes}


def group_verdicts(bank: TinyBank) -> list[Verdict]:
    return [verdict for verdict in bank.registry.verdicts() if len(verdict.recipe.members) > 1]


@dataclass
class PlantedMerge:
    """`merge_files` that notes every recipe, and fails as planted for its operator: once for each error."""

    errors: dict[str, list[MergeProbeError]] = field(default_factory=dict)
    recipes: list[Recipe] = field(default_factory=list)

    def __call__(
        self, folders: Sequence[Path], recipe: Recipe, base_name: str, target: Path, profiles: Sequence[Path] = ()
    ) -> MergeReport:
        self.recipes.append(recipe)
        if planted := self.errors.get(recipe.operator):
            raise planted.pop(0)
        return merge_files(folders, recipe, base_name, target, profiles)

    @property
    def operators(self) -> list[str]:
        return [recipe.operator for recipe in self.recipes]


def test_an_empty_bank_ticks(bank: TinyBank) -> None:
    assert bank.tick().state is PlanState.APPLIED
    assert bank.registry.epoch() == 0


def test_compatible_adapters_share_a_module_and_their_measured_retention_is_shown(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    bank.register("safety", protected=True)
    bank.tick()
    table = bank.registry.table()
    assert placements(bank) == {"a": "merged", "b": "merged", "safety": "protected"}
    assert len(table.modules) == 2
    assert [route.measured_retention for route in table.routes] == [1.0, 1.0, None]
    assert all(replica.resident == table.modules for replica in bank.engine.replicas)


def test_an_adapter_that_a_merge_would_destroy_stays_separate_with_the_reason(bank: TinyBank) -> None:
    bank.kept["b"] = 0.5
    bank.register("a")
    bank.register("b")
    bank.tick()
    assert placements(bank) == {"a": "separate", "b": "separate"}
    verdicts = [verdict for verdict in bank.registry.verdicts() if len(verdict.recipe.members) == 2]
    assert len(verdicts) == 3, "every recipe was tried"
    assert all("b keeps 0.50 of its gain" in verdict.reason for verdict in verdicts)
    assert all(replica.resident == bank.registry.table().modules for replica in bank.engine.replicas)


def test_a_failed_recipe_is_never_tried_again(bank: TinyBank) -> None:
    bank.kept["b"] = 0.5
    bank.register("a")
    bank.register("b")
    bank.tick()
    orders = list(bank.engine.log)
    bank.tick()
    assert bank.engine.log == orders


def test_a_merge_that_loses_refusals_is_refused(bank: TinyBank) -> None:
    bank.safety = 0.2
    bank.register("a")
    bank.register("b")
    bank.register("safety", domain="safety")
    bank.tick()
    assert placements(bank) == {"a": "separate", "b": "separate", "safety": "protected"}
    assert any("safety score falls by 0.30" in verdict.reason for verdict in bank.registry.verdicts())


def test_without_evaluation_rows_an_adapter_is_served_separately(bank: TinyBank) -> None:
    bank.register("a", evaluation=None)
    bank.register("b")
    plan = bank.tick()
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert "evaluation" in next(d.reason for d in plan.decisions if d.adapter == "a")


def test_a_new_revision_takes_over_and_the_group_is_measured_anew(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    bank.tick()
    before = bank.registry.table()
    bank.register("a", seed=1)
    bank.tick()
    after = bank.registry.table()
    assert after.modules.isdisjoint(before.modules)
    assert placements(bank) == {"a": "merged", "b": "merged"}
    assert all(replica.resident == after.modules for replica in bank.engine.replicas)


def test_a_removed_adapter_drains_and_its_partner_stays(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    bank.tick()
    merged = bank.registry.table().route("a").module
    bank.engine.replicas[0].in_flight[merged] = 1
    bank.bank.registrar.remove("b", force=False)
    bank.tick()
    assert placements(bank) == {"a": "separate"}
    assert [adapter.name for adapter in bank.registry.adapters()] == ["a", "b"], "b still drains"
    bank.engine.replicas[0].in_flight[merged] = 0
    bank.tick()
    assert [adapter.name for adapter in bank.registry.adapters()] == ["a"]


def test_a_module_that_does_nothing_is_refused_and_the_others_are_served(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    honest, dead = bank.respond, f"separate-{bank.registry.adapter('b').revision[:16]}"
    bank.engine.respond = lambda module, row: honest(None if module == dead else module, row)
    bank.tick()
    assert placements(bank) == {"a": "separate"}
    assert bank.bank.registrar.describe("b")["state"] == "refused"


def test_a_refused_revision_leaves_the_old_one_serving(bank: TinyBank) -> None:
    bank.register("a")
    bank.tick()
    before = bank.registry.table()
    bank.register("a", seed=1)
    honest, dead = bank.respond, f"separate-{bank.registry.adapter('a').revision[:16]}"
    bank.engine.respond = lambda module, row: honest(None if module == dead else module, row)
    bank.tick()
    assert bank.registry.table() == before
    assert bank.bank.registrar.describe("a")["served_revision"] == before.routes[0].revision


def test_one_tick_takes_up_at_most_the_allowed_groups(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, kept={"a": 0.1, "b": 0.1, "c": 0.1}, overrides={"policy__max_trials": 1})
    for name in "abc":
        bank.register(name)
    bank.tick()
    tried = {verdict.recipe.members for verdict in bank.registry.verdicts() if len(verdict.recipe.members) > 1}
    assert len(tried) == 1
    bank.tick()
    bank.tick()
    tried = {verdict.recipe.members for verdict in bank.registry.verdicts() if len(verdict.recipe.members) > 1}
    assert len(tried) == 3


@pytest.mark.parametrize("order", ["load", "flip", "unload"])
def test_a_tick_that_an_engine_error_ended_is_taken_up_by_the_next(bank: TinyBank, order: str) -> None:
    bank.register("a")
    bank.tick()
    bank.register("a", seed=1)
    failures = iter([True])

    def fail(seen: str, subject: str, replica: int) -> None:
        if seen == order and replica == 1 and next(failures, False):
            raise EngineError("planted")

    bank.engine.fail = fail
    with pytest.raises(EngineError, match="planted"):
        bank.tick()
    bank.tick()
    table = bank.registry.table()
    assert table.route("a").revision == bank.registry.adapter("a").revision
    assert all(replica.table == table and replica.resident == table.modules for replica in bank.engine.replicas)


RECIPES = (("ties", "mean_source"), ("dare", "none"), ("svd", "none"))


def test_operators_are_tried_in_order_until_one_passes(tmp_path: Path) -> None:
    merge = PlantedMerge({"ties": [MergeError("planted: out of memory")]})
    bank = TinyBank(tmp_path, overrides={"policy__recipes": RECIPES}, merge=merge)
    bank.register("a")
    bank.register("b")
    bank.tick()
    assert merge.operators == ["ties", "dare"]
    assert placements(bank) == {"a": "merged", "b": "merged"}
    assert {route.operator for route in bank.registry.table().routes} == {"dare"}


def test_a_merge_tells_its_operator_kept_energy_and_time(bank: TinyBank) -> None:
    bank.register("a")
    bank.register("b")
    bank.tick()
    (event,) = [event for event in bank.registry.events() if event.kind == "merged"]
    module = bank.registry.module(event.subject)
    assert event.message.startswith("2 adapters merged by mean (none) in ")
    assert event.data["operator"] == "mean"
    assert event.data["kept_energy"] == module.kept_energy
    assert event.data.keys() >= {"seconds", "peak_memory_bytes", "norm_ratio_mean_source", "norm_ratio_ta"}


def test_merges_that_cannot_be_carried_out_are_verdicts_with_the_reason_and_final(tmp_path: Path) -> None:
    merge = PlantedMerge({operator: [MergeError(f"planted: {operator}")] for operator, _ in RECIPES})
    bank = TinyBank(tmp_path, overrides={"policy__recipes": RECIPES}, merge=merge)
    bank.register("a")
    bank.tick()
    before = bank.registry.table().route("a")
    bank.register("b")
    assert bank.tick().state is PlanState.APPLIED
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert bank.registry.table().route("a") == before
    assert {verdict.reason for verdict in group_verdicts(bank)} == {"planted: ties", "planted: dare", "planted: svd"}
    assert not any(verdict.passed for verdict in group_verdicts(bank))
    bank.tick()
    assert merge.operators == ["ties", "dare", "svd"]


def test_an_interrupted_merge_is_no_verdict_and_is_tried_again_at_the_next_tick(tmp_path: Path) -> None:
    merge = PlantedMerge({"mean": [MergeInterrupted("planted: the worker died")]})
    bank = TinyBank(tmp_path, merge=merge)
    bank.register("a")
    bank.register("b")
    assert bank.tick().state is PlanState.APPLIED
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert group_verdicts(bank) == []
    told = [(event.subject, event.message) for event in bank.registry.events() if event.kind == "postponed"]
    assert told == [("a + b", "planted: the worker died")]
    bank.tick()
    assert placements(bank) == {"a": "merged", "b": "merged"}
    assert merge.operators == ["mean", "mean"]


def test_an_interrupted_group_does_not_keep_another_from_being_measured(tmp_path: Path) -> None:
    merge = PlantedMerge({"mean": [MergeInterrupted("planted: the worker died")]})
    bank = TinyBank(tmp_path, merge=merge)
    for name in "abc":
        bank.register(name)
    bank.tick()
    assert sorted(placements(bank).values()) == ["merged", "merged", "separate"]
    assert len({recipe.members for recipe in merge.recipes}) == 2


def test_a_group_is_measured_under_three_recipes_ever_whatever_the_configuration_becomes(tmp_path: Path) -> None:
    for recipes in (RECIPES[:2], (*RECIPES[1:], ("pico", "none")), (("ta", "none"),)):
        bank = TinyBank(tmp_path, kept={"b": 0.5}, overrides={"policy__recipes": recipes})
        if not bank.registry.adapters():
            bank.register("a")
            bank.register("b")
        bank.tick()
    assert sorted(verdict.recipe.operator for verdict in group_verdicts(bank)) == ["dare", "svd", "ties"]


def lose_merged_module(bank: TinyBank) -> None:
    module = bank.registry.table().route("a").module
    assert module.startswith("merged-")
    shutil.rmtree(bank.config.store / "modules" / module)


def test_a_lost_module_that_cannot_be_merged_again_is_left_out_and_the_bank_goes_on(tmp_path: Path) -> None:
    merge = PlantedMerge()
    bank = TinyBank(tmp_path, overrides={"policy__recipes": RECIPES[:1]}, merge=merge)
    bank.register("a")
    bank.register("b")
    bank.tick()
    lose_merged_module(bank)
    merge.errors["ties"] = [MergeError("planted: out of memory")]
    assert bank.tick().state is PlanState.APPLIED
    assert placements(bank) == {"a": "separate", "b": "separate"}
    assert [verdict.reason for verdict in group_verdicts(bank)] == ["planted: out of memory"]


def test_a_lost_module_whose_merge_is_interrupted_goes_on_serving_until_it_is_back(tmp_path: Path) -> None:
    merge = PlantedMerge()
    bank = TinyBank(tmp_path, merge=merge)
    bank.register("a")
    bank.register("b")
    bank.tick()
    before = bank.registry.table()
    lose_merged_module(bank)
    merge.errors["mean"] = [MergeInterrupted("planted: the worker died")]
    with pytest.raises(MergeInterrupted, match="planted"):
        bank.tick()
    assert bank.registry.table() == before
    assert bank.tick().state is PlanState.APPLIED
    assert bank.registry.table() == before
    assert Path(bank.config.store / "modules" / before.route("a").module).is_dir()


def test_an_epochs_event_says_what_changed_and_nothing_else(bank: TinyBank) -> None:
    modules = []
    for name in "ab":
        bank.register(name)
        bank.round()
        modules.append(bank.registry.table().route(name).module)
    bank.bank.registrar.remove("a", force=False)
    bank.round()
    alone = bank.registry.table().route("b").module
    told = [event.message.partition(": ")[2] for event in bank.registry.events() if event.kind == "epoch"][::-1]
    newer = "the same modules, newer figures"
    merged = ", ".join(f"{name} -> {modules[1]}" for name in "ab")
    assert told == [f"a -> {modules[0]}", newer, f"b -> {alone}", newer, merged, f"b -> {alone}, a is gone"]
