"""The bank for a GPU: two adapters of every mix over the grid of rank, modules, learning rate, alpha and data."""

from __future__ import annotations

from probe.bank.presets.grid import ALL, ATTENTION, adapter, demo_members, preference_group, random_twin
from probe.bank.presets.preset import Preset, Recipe
from probe.bank.training.settings import MethodName

# Task -> most training rows that it can give, in round numbers.
_ROWS = {
    "math:things": 1200,
    "math:money": 1100,
    "math:sums": 1200,
    "math:lists": 1200,
    "math:atoms": 1200,
    "math:steps": 1200,
    "code:lists": 700,
    "code:comprehensions": 1200,
    "code:calls": 1200,
    "code:stories": 1200,
    "code:texts": 1200,
    "science:symbols": 700,
    "science:elements": 800,
    "science:numbers": 1100,
    "science:formulas": 1200,
    "science:pairs": 1200,
    "science:arithmetic": 1200,
    "instruction:all": 750,
    "instruction:counting": 1000,
    "instruction:sentences": 1200,
    "instruction:repeats": 1200,
    "instruction:numbers": 1200,
    "instruction:symbols": 1200,
    "instruction:combined": 1200,
    "safety:balanced": 1200,
    "safety:verbs": 900,
    "safety:chemistry": 1100,
    "safety:programs": 1200,
    "safety:purposes": 1200,
}
_RANKS = (4, 8, 16, 32)
_MODULES = (ATTENTION, ALL)
_RATES = (1e-3, 2e-3, 5e-4)
_ALPHA_OVER_RANK = (2, 1)
_DATA_SHARES = (1.0, 0.5)
_METHOD_TASKS = ("math:lists", "code:calls", "science:pairs", "instruction:numbers", "safety:verbs")


def _ordinary(place: int, task: str, number: int) -> Recipe:
    """Return one adapter of a task; settings cycle at different paces, so that none goes with a task or another."""
    rank = _RANKS[(place + 2 * number) % 4]
    num_rows = round(_ROWS[task] * _DATA_SHARES[(place // 2 + number) % 2])
    return adapter(
        f"{task.replace(':', '-')}-{number + 1}",
        task,
        rank,
        _MODULES[(place // 4 + number) % 2],
        _RATES[(place + number) % 3],
        rank * _ALPHA_OVER_RANK[(place // 3 + number) % 2],
        num_rows,
    )


def _one_a_domain(method: MethodName) -> tuple[Recipe, ...]:
    return tuple(
        adapter(f"{method}-{task.split(':')[0]}", task, 8, ATTENTION, 1.5e-3, 16, _ROWS[task] // 2, 0.5, method, method)
        for task in _METHOD_TASKS
    )


def _twin(task: str) -> Recipe:
    name = f"twin-{task.split(':')[0]}"
    return adapter(name, task, 8, ATTENTION, 1e-3, 16, _ROWS[task] // 2, 0.5, "sft", "shared-seed", "math-lists-1")


_ORDINARY = tuple(_ordinary(place, task, number) for place, task in enumerate(_ROWS) for number in range(2))

LARGE = Preset(
    name="large",
    seed=0,
    recipes=(
        *demo_members(),
        *_ORDINARY,
        *preference_group("safety:purposes", 8, 8, 1e-3, 16, 128),
        *preference_group("safety:programs", 8, 8, 1e-3, 16, 128),
        *_one_a_domain("osrm"),
        *_one_a_domain("flylora"),
        *map(random_twin, _ORDINARY[:40:10]),
        *map(_twin, _METHOD_TASKS[1:4]),
    ),
)
