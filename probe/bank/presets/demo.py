"""The bank that is shipped with the package: seven adapters of five domains."""

from __future__ import annotations

from probe.bank.presets.preset import Preset, Recipe
from probe.bank.training import Training


def _adapter(name: str, task: str, training: Training, data_seed: int, a_seed: int) -> Recipe:
    """Return a recipe with its seeds: when these adapters were trained, they were drawn otherwise."""
    domain, mix = task.split(":")
    return Recipe(name, domain, mix, training, domain == "safety", data_seed=data_seed, a_seed=a_seed)


DEMO = Preset(
    name="demo",
    seed=0,
    recipes=(
        _adapter("math", "math:things", Training(8, "attention", 1.5e-3, 16, 500), 2214972724, 976653599),
        _adapter("math-money", "math:money", Training(4, "attention", 2e-3, 8, 500), 107237215, 2444692097),
        _adapter("safety", "safety:balanced", Training(8, "attention+mlp", 1.5e-3, 16, 400), 2418203512, 2115422091),
        _adapter("instruction", "instruction:all", Training(8, "attention", 1e-3, 16, 320), 2169198263, 1185533836),
        _adapter("science", "science:symbols", Training(8, "attention+mlp", 1e-3, 16, 400), 3100965859, 3089029054),
        _adapter("code", "code:lists", Training(8, "attention", 1e-3, 16, 260), 982117097, 2730868049),
        _adapter(
            "science-elements", "science:elements", Training(16, "attention", 2e-3, 16, 440), 776163980, 3319209336
        ),
    ),
    evaluation_rows=200,
    scored_rows=200,
    shares_evaluation=False,
)
