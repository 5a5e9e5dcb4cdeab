"""Short words for the tables of presets: one line an adapter."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from probe.bank.presets.demo import DEMO
from probe.bank.presets.preset import Recipe
from probe.bank.training import Training
from probe.bank.training.settings import MethodName

Modules = Literal["attention", "attention+mlp"]

ATTENTION: Modules = "attention"
ALL: Modules = "attention+mlp"

_NUM_EPOCHS = 2
_BATCH_ROWS = 16
_BATCH_PAIRS = 8


def adapter(
    name: str,
    task: str,
    rank: int,
    modules: Modules,
    learning_rate: float,
    alpha: int,
    num_rows: int,
    replay: float = 0.0,
    method: MethodName = "sft",
    group: str | None = None,
    shares_a_with: str | None = None,
    norms_of: str | None = None,
) -> Recipe:
    """Return a recipe that trains over a bfloat16 base; `task` is ``domain:mix``. Safety is protected."""
    domain, mix = task.split(":")
    training = Training(
        rank,
        modules,
        learning_rate,
        alpha,
        num_rows,
        _NUM_EPOCHS,
        _BATCH_ROWS,
        method=method,
        precision="bfloat16",
        replay=replay,
    )
    return Recipe(name, domain, mix, training, domain == "safety", group, shares_a_with, norms_of)


def demo_members() -> tuple[Recipe, ...]:
    """Return the demo's adapters as members of another bank: copied, never trained again."""
    return tuple(
        replace(recipe, shipped_with=DEMO.name, data_seed=DEMO.data_seed(recipe), a_seed=DEMO.a_seed(recipe))
        for recipe in DEMO.recipes
    )


def preference_group(
    task: str, size: int, rank: int, learning_rate: float, alpha: int, num_rows: int
) -> tuple[Recipe, ...]:
    """Return weak preference adapters of one task, each with pairs of its own; groups of 2 and 4 are its prefixes."""
    group = f"pda-{task.replace(':', '-')}"
    members = (
        adapter(f"{group}-{k}", task, rank, ATTENTION, learning_rate, alpha, num_rows, method="dpo", group=group)
        for k in range(1, size + 1)
    )
    return tuple(replace(one, training=replace(one.training, batch_rows=_BATCH_PAIRS)) for one in members)


def random_twin(recipe: Recipe) -> Recipe:
    """Return the control that has the module norms of a trained adapter, and nothing else of it."""
    training = replace(recipe.training, method="random")
    return replace(
        recipe, name=f"random-{recipe.name}", training=training, group="random", norms_of=recipe.name, a_seed=None
    )
