"""Forecasts of a simulated bank: its expected retention with an error, and conformal bounds that cover that error."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from router.bank_state import Settings
from router.forecasts import ConflictPart, GroupForecast
from router.recipes import plain_recipes
from router.records import Recipe
from router.simulated_bank import HEAT, LAYERS_PER_BLOCK, NUM_BLOCKS, SimulatedBank, module_names, pair_noise

CHUNK = 8192
"""Recipes of one size, or adapters, in one batch: bounds the memory, however large the bank."""
MAX_NEIGHBOURS = 16
SEEN_AT_FULL_ERROR = 0.1
"""Share of training seen at which the model's `forecast_error` holds."""


class SimulatedForecasts:
    """What a predictor would say of a simulated bank.

    Parameters
    ----------
    num_labels
        Simulated labels behind the bounds' radius; too few for it leave every bound infinite.
    rho
        0..1, share of training seen: forecasts sharpen with its square root.
    alpha
        0..1, one-sided miscoverage of the bounds.
    seed
        Of the forecasts' errors.
    """

    def __init__(
        self,
        bank: SimulatedBank,
        settings: Settings,
        *,
        num_labels: int = 200,
        rho: float = SEEN_AT_FULL_ERROR,
        alpha: float = 0.1,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self._bank, self._target = bank, settings.target_retention
        self._error = bank.model.forecast_error * math.sqrt(SEEN_AT_FULL_ERROR / rho)
        self._vectors = rng.standard_normal((2, len(bank.adapters), HEAT)) / HEAT**0.25
        self._neighbours: dict[str, tuple[str, ...]] = {}
        self._deviation = math.hypot(self._error, bank.model.hidden, bank.model.label_noise) or 1e-9
        self._radius = math.inf
        self._radius = self._conformal_radius(num_labels, alpha, settings, rng)

    def version(self, revision: str) -> str:
        """Return the same token always: a simulated adapter is known from the start."""
        return f"simulated {revision}"

    def neighbours(self, revision: str) -> Sequence[str]:
        """Return the adapters with the largest predicted worst retention of a mean of two."""
        if not self._neighbours:
            self._neighbours = dict(self._all_neighbours())
        return self._neighbours[revision]

    def groups(self, recipes: Sequence[Recipe]) -> Sequence[GroupForecast]:
        """Return a forecast for each recipe."""
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for place, recipe in enumerate(recipes):
            by_size[len(recipe.members)].append(place)
        found: list[GroupForecast | None] = [None] * len(recipes)
        for places in by_size.values():
            for start in range(0, len(places), CHUNK):
                chunk = places[start : start + CHUNK]
                for place, forecast in zip(chunk, self._of_one_size([recipes[p] for p in chunk]), strict=True):
                    found[place] = forecast
        return [forecast for forecast in found if forecast is not None]

    def conflicts(self, members: Sequence[str]) -> Sequence[ConflictPart]:
        """Return every block of every member but each one's last, the most damaging first."""
        places = np.array([[self._bank.position[member] for member in members]])
        done = self._bank.damage(places, self._bank.cosine(places))[0].sum(axis=0)  # (m, blocks): by whom, where
        total = done.sum() or 1.0
        parts = [
            ConflictPart(member, _MODULES[block], float(done[place, block] / total))
            for place, member in enumerate(members)
            for block in np.argsort(-done[place], kind="stable")[: NUM_BLOCKS - 1]
        ]
        return sorted(parts, key=lambda part: (-part.share, part.member, part.modules))

    def _of_one_size(self, recipes: Sequence[Recipe]) -> Iterator[GroupForecast]:
        point, damage = self._point(recipes)
        safe = ndtr((point - self._target) / self._deviation).prod(axis=1)
        hottest = damage.sum(axis=(1, 2)).argmax(axis=1)
        bound = point - self._radius
        for recipe, kept, low, probability, block in zip(
            recipes, point.tolist(), bound.tolist(), safe.tolist(), hottest.tolist(), strict=True
        ):
            names = recipe.members
            yield GroupForecast(
                dict(zip(names, kept, strict=True)), dict(zip(names, low, strict=True)), probability, _NOTES[block]
            )

    def _point(self, recipes: Sequence[Recipe]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return point forecasts (R, m), and the damage among the members (R, m, m, blocks)."""
        members = self._bank.members_of(recipes)
        expected, damage = self._bank.expected_with_damage(recipes, members)
        return expected + self._error * pair_noise(self._vectors[0], self._vectors[1], members), damage

    def _conformal_radius(self, num_labels: int, alpha: float, settings: Settings, rng: np.random.Generator) -> float:
        """Return the radius of one-sided split conformal bounds, from simulated labels of random pairs."""
        rank = math.ceil((num_labels + 1) * (1 - alpha))
        if rank > num_labels or len(self._bank.adapters) < 2:
            return math.inf
        ranks = {adapter.revision: adapter.rank for adapter in self._bank.adapters}
        names = sorted(ranks)
        recipes = []
        for _ in range(num_labels):
            pair = rng.choice(len(names), size=2, replace=False)
            plain = plain_recipes((names[place] for place in pair), ranks, settings)
            recipes.append(plain[rng.integers(len(plain))])
        measured = self._bank.retention(recipes) + self._bank.model.label_noise * rng.standard_normal((num_labels, 2))
        errors = (self._point(recipes)[0] - measured)[:, 0]
        return float(np.sort(errors)[rank - 1])

    def _all_neighbours(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield every adapter with its neighbours, from scores of all pairs that are held one slice at a time."""
        revisions = [adapter.revision for adapter in self._bank.adapters]
        size = max(1, CHUNK * 512 // max(1, len(revisions)))
        for start in range(0, len(revisions), size):
            scores = self._bank.closeness(slice(start, start + size))
            scores[range(len(scores)), range(start, start + len(scores))] = -np.inf
            count = min(MAX_NEIGHBOURS, len(revisions) - 1)
            nearest = np.argpartition(-scores, max(0, count - 1), axis=1)[:, :count]
            for row, others in enumerate(nearest):
                ordered = sorted(others.tolist(), key=lambda other: (-scores[row, other], other))
                yield revisions[start + row], tuple(revisions[other] for other in ordered)


_MODULES = tuple(map(module_names, range(NUM_BLOCKS)))
_NOTES = tuple(
    f"conflict mostly in layers {block * LAYERS_PER_BLOCK}-{(block + 1) * LAYERS_PER_BLOCK - 1}"
    for block in range(NUM_BLOCKS)
)
