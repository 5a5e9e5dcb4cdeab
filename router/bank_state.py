"""What the planner looks at, and the settings it plans by."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from probe.plan_score import LAMBDA_COST, MIN_IMPROVEMENT, TARGET_RETENTION
from probe.retention import Gain
from router.records import Adapter, RoutingTable, Verdict

MAX_RECIPES = 3
"""Recipes measured on one group, ever: each further look at the same gate rows makes a false pass likelier."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The planner's settings; each default with its reason.

    Attributes
    ----------
    target_retention
        Ratio that every member's lower bound must reach; 0.85 is Ret* of arXiv 2606.19549.
    lambda_cost
        What one engine module costs, in units of one adapter's retention; 0.5 as in the paper.
    protected_domains
        Domains that are never merged: safety is what a merge destroys first.
    max_group_size
        Adapters in one module; the paper measures no more than 5.
    max_trials
        Groups measured per plan, so that one tick stays short.
    max_exploration
        Of those, groups whose bound does not pass, but that are likely enough to: each is a label where labels are few,
        and is served only if measured to pass.
    output_ranks
        Ranks that a merged module may have, ascending: those of the engine, up to its maximum (vLLM's is 16 unless
        raised).
    recipes
        (operator, norm rule) that a group may be merged by; without forecasts tried in this order. `MAX_RECIPES` of
        them are measured on one group.
    hysteresis
        Score by which each part of a new partition must beat what it replaces: a swap loads modules and cools prefix
        caches. What a measurement may be expected to add must beat it too.
    slots
        Modules that the engine mixes in one batch; None: not known. Soft: a plan may need more, which is warned of.
    head_room
        Slots that a plan should leave free for the module that is being measured.
    """

    target_retention: float = TARGET_RETENTION
    lambda_cost: float = LAMBDA_COST
    protected_domains: tuple[str, ...] = ("safety",)
    max_group_size: int = 5
    max_trials: int = 2
    max_exploration: int = 2
    output_ranks: tuple[int, ...] = (8, 16)
    recipes: tuple[tuple[str, str], ...] = (("mean", "none"), ("mean", "mean_source"), ("ta", "none"))
    hysteresis: float = MIN_IMPROVEMENT
    slots: int | None = None
    head_room: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter of the bank and what it gains over the base on its gate rows; None: not measured yet."""

    adapter: Adapter
    gain: Gain | None = None


@dataclass(frozen=True, slots=True)
class PairAffinity:
    """Two weights-only signals of a pair of revisions; NaN where undefined.

    Attributes
    ----------
    cosine
        -1..1, of the two updates.
    overlap_above_chance
        -1..1, of the subspaces that they read and write; higher = more collision.
    """

    cosine: float
    overlap_above_chance: float

    @property
    def score(self) -> float:
        """How far directions agree beyond colliding, higher = try earlier: an order of work and no forecast."""
        score = self.cosine - self.overlap_above_chance
        return -math.inf if math.isnan(score) else score


@dataclass(frozen=True, slots=True)
class BankState:
    """Everything that a plan depends on.

    Attributes
    ----------
    affinity
        Pair of revisions -> affinity; pairs not measured are absent.
    verdicts
        Of every recipe ever verified, oldest first: the latest verdict on a recipe counts.
    current
        The routing table that is being served.
    traffic
        Adapter name -> requests in some window, >= 0: what its retention weighs. Empty: all weigh the same.
    vetoed
        Groups of revisions that a person keeps out, and with each every group that holds it: neither served nor tried.
    """

    candidates: tuple[Candidate, ...]
    affinity: Mapping[frozenset[str], PairAffinity] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    current: RoutingTable = field(default_factory=RoutingTable)
    traffic: Mapping[str, float] = field(default_factory=dict)
    vetoed: frozenset[frozenset[str]] = frozenset()

    def is_vetoed(self, members: Collection[str]) -> bool:
        """Say whether a person keeps a group of revisions out."""
        return any(group <= set(members) for group in self.vetoed)
