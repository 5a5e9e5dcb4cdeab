"""The bank that two CPU cores build in a night: ordinary adapters, preference groups, training variants, controls."""

from __future__ import annotations

from probe.bank.presets.grid import ALL, ATTENTION, adapter, demo_members, preference_group, random_twin
from probe.bank.presets.pilot import PILOT
from probe.bank.presets.preset import Preset, Recipe
from probe.bank.training.settings import MethodName

# name, task, rank, modules, learning rate, alpha, rows, replay.
_ORDINARY = (
    adapter("math-atoms", "math:atoms", 16, ALL, 1.2e-3, 32, 1000, 0.25),
    adapter("math-money-2", "math:money", 32, ATTENTION, 8e-4, 32, 800, 0.25),
    adapter("code-stories", "code:stories", 32, ATTENTION, 5e-4, 64, 240, 0.7),
    adapter("code-lists-2", "code:lists", 4, ALL, 1e-3, 8, 450, 0.4),
    adapter("science-pairs", "science:pairs", 16, ATTENTION, 1e-3, 32, 1000, 0.5),
    adapter("science-numbers", "science:numbers", 32, ALL, 5e-4, 32, 900, 0.25),
    adapter("instruction-all-2", "instruction:all", 16, ALL, 5e-4, 32, 600, 0.7),
    adapter("instruction-numbers", "instruction:numbers", 8, ALL, 8e-4, 16, 600, 0.5),
    adapter("instruction-sentences", "instruction:sentences", 4, ATTENTION, 1e-3, 8, 600, 0.0),
    adapter("safety-chemistry", "safety:chemistry", 8, ATTENTION, 1e-3, 16, 700, 0.5),
    adapter("safety-programs", "safety:programs", 4, ALL, 8e-4, 8, 600, 0.25),
)


def _one_a_domain(method: MethodName, learning_rate: float) -> tuple[Recipe, ...]:
    """Return one adapter of each domain, all trained by one method at one rank: a bank within the bank."""
    return (
        adapter(f"{method}-math", "math:lists", 8, ATTENTION, learning_rate, 16, 800, 0.5, method, method),
        adapter(f"{method}-code", "code:texts", 8, ATTENTION, learning_rate, 16, 500, 0.5, method, method),
        adapter(f"{method}-science", "science:formulas", 8, ATTENTION, learning_rate, 16, 800, 0.5, method, method),
        adapter(
            f"{method}-instruction", "instruction:repeats", 8, ATTENTION, learning_rate, 16, 700, 0.5, method, method
        ),
        adapter(f"{method}-safety", "safety:balanced", 8, ATTENTION, learning_rate, 16, 600, 0.5, method, method),
    )


_TWINS = (
    adapter("twin-code", "code:texts", 8, ATTENTION, 1e-3, 16, 500, 0.5, "sft", "shared-seed", "math-sums"),
    adapter("twin-science", "science:formulas", 8, ATTENTION, 1e-3, 16, 800, 0.5, "sft", "shared-seed", "math-sums"),
)

CPU = Preset(
    name="cpu",
    seed=0,
    recipes=(
        *demo_members(),
        *PILOT.recipes,
        *_ORDINARY,
        # Of safety, because preferences need a base that is right now and then: of the other domains it solves nothing.
        *preference_group("safety:purposes", 8, 8, 1e-3, 16, 128),
        *_one_a_domain("osrm", 1e-3),
        *_one_a_domain("flylora", 1.5e-3),
        *map(random_twin, PILOT.recipes[4:6]),
        *_TWINS,
    ),
)
