"""The recipes that a set of adapters may be merged by: plain, reweighted and pruned ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter

from probe.operators import joint_rank
from probe.records import Pruned
from router.bank_state import Settings
from router.forecasts import ConflictPart
from router.records import Action, Recipe

SHARES = (0.5, 0.25)
"""Weights that one member may have beside 1 for all others: those that banks are measured with."""


def plain_recipes(members: Iterable[str], ranks: Mapping[str, int], settings: Settings) -> tuple[Recipe, ...]:
    """Return the settings' recipes with all weights 1, at a rank that holds all members, as far as the engine has it.

    Parameters
    ----------
    ranks
        Revision -> rank.
    """
    ordered = tuple(sorted(members))
    rank = joint_rank((ranks[member] for member in ordered), settings.output_ranks)
    weights = (1.0,) * len(ordered)
    return tuple(Recipe(operator, ordered, weights, norm, rank) for operator, norm in settings.recipes)


def reweighted(recipe: Recipe) -> tuple[Recipe, ...]:
    """Return a plain recipe with each member in turn weighing less than the others, by every share."""
    places = range(len(recipe.members))
    weights = (tuple(share if place == lighter else 1.0 for place in places) for share in SHARES for lighter in places)
    return tuple(Recipe(recipe.operator, recipe.members, given, recipe.norm, recipe.rank) for given in weights)


def without_part(recipe: Recipe, part: ConflictPart) -> Recipe:
    """Return the recipe with a part of a member left out, of which nothing was left out before."""
    member = recipe.members.index(part.member)
    dropped = (Pruned(member, module) for module in part.modules)
    pruned = tuple(sorted((*recipe.pruned, *dropped), key=attrgetter("member", "module")))
    return Recipe(recipe.operator, recipe.members, recipe.weights, recipe.norm, recipe.rank, pruned)


def action_of(recipe: Recipe) -> Action:
    """Return the action of Algorithm 1 that a recipe carries out."""
    if recipe.pruned:
        return Action.PRUNE
    return Action.REWEIGHT if len(set(recipe.weights)) > 1 else Action.MERGE
