"""A simulated bank: adapters as directions in a small space, with overlap, conflict and noise that are set.

Nothing here is measured, and whatever is made of it has to say so. The model, for a merge in which member j has the
coefficient a_j (operator and weights decide it) and adapter i the direction v_i with c_ij = v_i . v_j::

    Ret_i = f(sum_j a_j c_ij) - sum_{j != i} a_j^2 sum_l D_ijl + hidden_i
    f(e) = 1 - (1 - e)^3 for e < 1, else 1 - over (e - 1)^2

`f` is what is left of a skill that is expressed by a share e of its update; D_ijl >= 0 is the damage that j does to i
in layer block l: j's force times i's fragility times a random heat of that pair there, less where they agree. Retention
is therefore directional, depends on the operator and on the weights, and has no lower end; a few hot blocks carry most
of a conflict. `hidden` is what no signal shows.

References
----------
MergeProbe, arXiv 2606.19549, Appendix B, "Synthetic adapter-bank simulator": task directions of controllable overlap,
layerwise conflict, label noise, features that say more the more of a training was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.records import MergeProbeError
from router.records import Adapter, Recipe

Array = NDArray[np.float64]

DOMAINS = ("math", "code", "science", "instruction", "safety")
LAYERS_PER_BLOCK, NUM_BLOCKS = 5, 6
HEAT = 4
"""Dimensions of the vectors whose products make the heat of a pair in a block: few, so that a few blocks are hot."""
EXPRESSION_EXPONENT = 3
OVER_AMPLIFICATION = 0.3
OWN = 16
"""Dimensions in which adapters of one domain differ."""


class SimulationError(MergeProbeError):
    """Nothing can be simulated with these parameters."""


@dataclass(frozen=True, slots=True)
class BankModel:
    """What is controlled; all are ratios.

    Attributes
    ----------
    within, overlap
        Cosine of two updates of one domain, and of two of different domains; 0..1, overlap <= within.
    conflict
        Mean of what one unrelated adapter at full weight destroys of another's gain, >= 0.
    spread
        Standard deviation of the logarithm of force and of fragility: how much adapters differ in doing and suffering
        damage.
    upper_share
        0..1, share of the conflict in the upper third of the layers.
    hidden
        Standard deviation of the part of a retention that no signal shows.
    label_noise
        Standard error of one measured retention.
    forecast_error
        Standard deviation of the error of a forecast at 10 % of training; it falls with the square root of what was
        seen.
    fragile_safety
        By how much safety adapters suffer more than others.
    """

    within: float = 0.6
    overlap: float = 0.05
    conflict: float = 0.35
    spread: float = 0.6
    upper_share: float = 0.6
    hidden: float = 0.05
    label_noise: float = 0.04
    forecast_error: float = 0.08
    fragile_safety: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.within <= 1:
            raise SimulationError(
                f"Cosines of {self.overlap} between domains and {self.within} within one cannot be simulated; expected "
                "0 <= overlap <= within <= 1."
            )


class SimulatedBank:
    """Adapters of a simulated bank, and the true retention of every merge of them.

    Parameters
    ----------
    num_adapters
        They take the domains in turn; those of safety are protected by their domain.
    seed
        Of every random number.
    """

    def __init__(self, num_adapters: int, model: BankModel, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        domain = np.arange(num_adapters) % len(DOMAINS)
        self.model = model
        self.adapters = tuple(_adapter(number, DOMAINS[domain[number]], rng) for number in range(num_adapters))
        self.directions = _directions(domain, model, rng)
        forces = _lognormal(rng, num_adapters, model.spread), _lognormal(rng, num_adapters, model.spread)
        self._force = forces[0] * model.conflict
        self._fragility = forces[1] * np.where(domain == DOMAINS.index("safety"), model.fragile_safety, 1.0)
        self._hot, self._cold = (rng.standard_normal((num_adapters, NUM_BLOCKS, HEAT)) / HEAT**0.25 for _ in range(2))
        self._load = _block_loads(model.upper_share)
        self._hidden = rng.standard_normal((2, num_adapters, HEAT)) / HEAT**0.25
        self.position = {adapter.revision: place for place, adapter in enumerate(self.adapters)}

    def retention(self, recipes: Sequence[Recipe]) -> Array:
        """Return the true retention of every member, (R, m), of recipes of m members each."""
        members = self.members_of(recipes)
        return self.expected(recipes) + self.model.hidden * pair_noise(self._hidden[0], self._hidden[1], members)

    def expected(self, recipes: Sequence[Recipe]) -> Array:
        """Return the retention without its hidden part, (R, m): all that signals could tell."""
        return self.expected_with_damage(recipes, self.members_of(recipes))[0]

    def expected_with_damage(self, recipes: Sequence[Recipe], members: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return the expected retention (R, m) of recipes, and the damage D (R, m, m, blocks) among their members."""
        cosine = self.cosine(members)
        damage = self.damage(members, cosine)
        kept = _kept_blocks(recipes)
        a = _coefficients(recipes, cosine)
        # A block that is pruned takes its share of the member's expression with it.
        expressed = np.einsum("rj,rij->ri", a * kept.mean(axis=2), cosine)
        suffered = np.einsum("rj,rijl,rjl->ri", a**2, damage, kept)
        shortfall, excess = np.maximum(0.0, 1.0 - expressed), np.maximum(0.0, expressed - 1.0)
        skill: Array = 1.0 - shortfall**EXPRESSION_EXPONENT - OVER_AMPLIFICATION * excess**2 - suffered
        return skill, damage

    def cosine(self, members: NDArray[np.intp]) -> Array:
        """Return the cosines of the members' directions, (R, m, m)."""
        v = self.directions[members]
        cosine: Array = np.einsum("rid,rjd->rij", v, v)
        return cosine

    def damage(self, members: NDArray[np.intp], cosine: Array) -> Array:
        """Return D (R, m, m, blocks): what member j does to member i in each block, at full weight; 0 for i = j."""
        heat = np.einsum("rilh,rjlh->rijl", self._cold[members], self._hot[members]) ** 2
        scale = self._fragility[members][:, :, None] * self._force[members][:, None, :]
        conflict: Array = scale[..., None] * heat * self._load * np.maximum(0.0, 1.0 - cosine)[..., None]
        return conflict

    def closeness(self, rows: slice) -> Array:
        """Return what the worse off of two keeps in a mean of both, (rows, n): a slice of the bank with all of it."""
        cosine = self.directions[rows] @ self.directions.T
        here_hot, here_cold = self._hot[rows], self._cold[rows]
        to_here, from_here = np.zeros_like(cosine), np.zeros_like(cosine)
        for block, load in enumerate(self._load):
            to_here += load * (here_cold[:, block] @ self._hot[:, block].T) ** 2
            from_here += load * (here_hot[:, block] @ self._cold[:, block].T) ** 2
        to_here *= self._fragility[rows, None] * self._force
        from_here *= self._force[rows, None] * self._fragility
        shortfall = (1.0 - cosine) / 2
        worse: Array = np.maximum(to_here, from_here) * np.maximum(0.0, 1.0 - cosine) / 4
        return 1.0 - shortfall**EXPRESSION_EXPONENT - worse

    def members_of(self, recipes: Sequence[Recipe]) -> NDArray[np.intp]:
        """Return the members' places in the bank, (R, m)."""
        return np.array([[self.position[member] for member in recipe.members] for recipe in recipes], dtype=np.intp)


def module_names(block: int) -> tuple[str, ...]:
    """Return the names of a block's base modules, as recipes prune them."""
    layers = range(block * LAYERS_PER_BLOCK, (block + 1) * LAYERS_PER_BLOCK)
    return tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in layers)


_BLOCK_OF = {module: block for block in range(NUM_BLOCKS) for module in module_names(block)}


def pair_noise(first: Array, second: Array, members: NDArray[np.intp]) -> Array:
    """Return fixed noise of about unit variance, (R, m), that the others of a group bring to each member.

    Parameters
    ----------
    first, second
        (n, HEAT) vectors of every adapter; a pair's noise is a product of the two.
    """
    noise = np.einsum("rih,rjh->rij", first[members], second[members])
    num_members = members.shape[1]
    noise[:, range(num_members), range(num_members)] = 0.0
    summed: Array = noise.sum(axis=2) / np.sqrt(max(1, num_members - 1))
    return summed


def _adapter(number: int, domain: str, rng: np.random.Generator) -> Adapter:
    name, rank = f"{domain}-{number:05d}", int(rng.choice((4, 8, 16)))
    return Adapter(name, f"simulated-{number:05d}", "simulated", rank, rank << 16, domain, evaluation="simulated")


def _directions(domain: NDArray[np.intp], model: BankModel, rng: np.random.Generator) -> Array:
    """Return unit vectors (n, d) with the model's cosines: a common part, one of the domain, one of its own.

    The parts lie in dimensions of their own, so that cosines of own parts only scatter around 0.
    """
    own = rng.standard_normal((domain.size, OWN))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    common = np.full((domain.size, 1), np.sqrt(model.overlap))
    of_domain = np.sqrt(model.within - model.overlap) * np.eye(len(DOMAINS))[domain]
    return np.hstack([common, of_domain, np.sqrt(1.0 - model.within) * own])


def _lognormal(rng: np.random.Generator, size: int, spread: float) -> Array:
    """Return numbers > 0 with mean 1."""
    return rng.lognormal(mean=-(spread**2) / 2, sigma=spread, size=size)


def _block_loads(upper_share: float) -> Array:
    """Return the share of the conflict in each block; the upper third of them has `upper_share` together."""
    num_upper = NUM_BLOCKS // 3
    lower = np.full(NUM_BLOCKS - num_upper, (1.0 - upper_share) / (NUM_BLOCKS - num_upper))
    return np.concatenate([lower, np.full(num_upper, upper_share / num_upper)])


def _coefficients(recipes: Sequence[Recipe], cosine: Array) -> Array:
    """Return the members' coefficients a, (R, m): a sum, a mean, or a sum of the members' mean length.

    Weights are one number a member: no plan weighs by layer band.
    """
    weights = np.array([recipe.weights for recipe in recipes], dtype=np.float64)
    summed = np.einsum("ri,rj,rij->r", weights, weights, cosine)
    divisor = np.ones(len(recipes))
    is_mean = np.array([recipe.operator == "mean" for recipe in recipes])
    is_rescaled = np.array([recipe.norm == "mean_source" for recipe in recipes])
    divisor = np.where(is_mean, weights.sum(axis=1), divisor)
    divisor = np.where(is_rescaled, np.sqrt(summed), divisor)
    scaled: Array = weights / divisor[:, None]
    return scaled


def _kept_blocks(recipes: Sequence[Recipe]) -> Array:
    """Return what is left of each member's blocks, (R, m, blocks), 0..1: pruned modules are gone."""
    kept = np.ones((len(recipes), len(recipes[0].members), NUM_BLOCKS))
    for place, recipe in ((place, recipe) for place, recipe in enumerate(recipes) if recipe.pruned):
        for part in recipe.pruned:
            kept[place, part.member, _BLOCK_OF[part.module]] -= 1.0 / LAYERS_PER_BLOCK
    return np.maximum(kept, 0.0)
