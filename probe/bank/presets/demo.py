"""The bank that is shipped with the package: seven adapters of five domains."""

from __future__ import annotations

from probe.bank.presets.preset import Preset, Recipe
from probe.bank.training import Training

# Their seeds are given: when these adapters were trained, they were drawn otherwise.
DEMO = Preset(
    name="demo",
    seed=0,
    recipes=(
        Recipe(
            "math", "math", "things", Training(8, "attention", 1.5e-3, 16, 500), data_seed=2214972724, a_seed=976653599
        ),
        Recipe(
            "math-money",
            "math",
            "money",
            Training(4, "attention", 2e-3, 8, 500),
            data_seed=107237215,
            a_seed=2444692097,
        ),
        Recipe(
            "safety",
            "safety",
            "balanced",
            Training(8, "attention+mlp", 1.5e-3, 16, 400),
            True,
            data_seed=2418203512,
            a_seed=2115422091,
        ),
        Recipe(
            "instruction",
            "instruction",
            "all",
            Training(8, "attention", 1e-3, 16, 320),
            data_seed=2169198263,
            a_seed=1185533836,
        ),
        Recipe(
            "science",
            "science",
            "symbols",
            Training(8, "attention+mlp", 1e-3, 16, 400),
            data_seed=3100965859,
            a_seed=3089029054,
        ),
        Recipe(
            "code", "code", "lists", Training(8, "attention", 1e-3, 16, 260), data_seed=982117097, a_seed=2730868049
        ),
        Recipe(
            "science-elements",
            "science",
            "elements",
            Training(16, "attention", 2e-3, 16, 440),
            data_seed=776163980,
            a_seed=3319209336,
        ),
    ),
    evaluation_rows=200,
    scored_rows=200,
    shares_evaluation=False,
)
