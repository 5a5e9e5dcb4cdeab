"""Frozen records that pass between the router's modules and over its edges.

An *adapter* is a name that clients use, a *revision* its immutable content, a *module* what the engine loads, a *plan*
an action for every adapter, an *epoch* a version of the routing table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from enum import StrEnum

from probe.records import Pruned, Weight

BASE = "base"
"""The name under which measurements of the base model, without any module, are filed."""


class Placement(StrEnum):
    """How an adapter is served; open to further kinds, so compare by name, never by exhaustion."""

    MERGED = "merged"
    SEPARATE = "separate"
    PROTECTED = "protected"


class Action(StrEnum):
    """What a plan does to an adapter (Algorithm 1 of arXiv 2606.19549)."""

    MERGE = "merge"
    REWEIGHT = "reweight"
    PRUNE = "prune"
    ROUTE = "route"


class PlanState(StrEnum):
    """Where a plan stands; `PROPOSED` is a preview that nobody asked to apply.

    A `WAITING` plan waits for a person, who makes it `APPROVED` (the next tick carries it out) or `REJECTED`; `STALE`
    says that it is no longer what the controller would do, `ROLLED_BACK` that a person went back behind it.
    """

    PROPOSED = "proposed"
    PENDING = "pending"
    RUNNING = "running"
    APPLIED = "applied"
    FAILED = "failed"
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    STALE = "stale"
    ROLLED_BACK = "rolled_back"


class Part(StrEnum):
    """Which half of an evaluation set: the gate decides, the report is shown; they are disjoint."""

    GATE = "gate"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A registered adapter at its current revision.

    `calibration` and `evaluation` are content hashes of row files in the store; `leaving` means that a person
    deleted it and that it is still draining. Equality is equality of all fields.
    """

    name: str
    revision: str
    source: str
    rank: int
    num_bytes: int
    domain: str | None = None
    protected: bool = False
    calibration: str | None = None
    evaluation: str | None = None
    leaving: bool = False
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to merge, and what.

    Attributes
    ----------
    operator
        A key of `probe.operators.OPERATORS`.
    members
        Revisions, sorted.
    weights
        One a member.
    norm
        The norm rule.
    rank
        Largest rank of any module of the result.
    pruned
        Parts of members that are left out, sorted.
    hyper_parameters
        (name, value) of those that are not the operator's defaults, sorted.
    seed
        Of every random number.
    """

    operator: str
    members: tuple[str, ...]
    weights: tuple[Weight, ...]
    norm: str
    rank: int
    pruned: tuple[Pruned, ...] = ()
    hyper_parameters: tuple[tuple[str, float], ...] = ()
    seed: int = 0

    @property
    def key(self) -> str:
        """Hash of the recipe: equal recipes over equal contents have equal keys.

        Parts that a recipe does without stay out of it, so a part that is new to recipes changes no stored key.
        """
        fields: list[object] = [self.operator, self.members, self.weights, self.norm, self.rank]
        pruned = [astuple(part) for part in self.pruned]
        optional = {"pruned": pruned, "hyper_parameters": self.hyper_parameters, "seed": self.seed}
        if given := {name: part for name, part in optional.items() if part}:
            fields.append(given)
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Module:
    """What the engine loads: an immutable PEFT folder whose name holds a hash of its content.

    `recipe` is None for a separate module, whose only member is the revision itself. `kept_energy` is the share
    (0..1) of the merged update's squared norm that truncation to `rank` kept; None for a separate module.
    """

    name: str
    members: tuple[str, ...]
    rank: int
    num_bytes: int
    recipe: Recipe | None = None
    kept_energy: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the routing table: the name that clients ask for, and the module that answers.

    Retentions are ratios: measured on report rows, predicted as in its decision.
    """

    adapter: str
    revision: str
    module: str
    placement: Placement
    action: Action
    reason: str
    operator: str | None = None
    measured_retention: float | None = None
    predicted_retention: float | None = None
    lower_bound: float | None = None


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All routes of one epoch, sorted by adapter name. Epoch 0 is the empty table before the first commit."""

    epoch: int = 0
    routes: tuple[Route, ...] = ()

    @property
    def modules(self) -> frozenset[str]:
        """Names of the engine modules that this table needs: the *active adapters*."""
        return frozenset(route.module for route in self.routes)

    def route(self, adapter: str) -> Route | None:
        """Return the route of an adapter name, or None where the table has no such name."""
        return next((route for route in self.routes if route.adapter == adapter), None)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Scores (0..1, one a row, in the order of the rows) of a module on one part of an evaluation set.

    `module` is a module's name or `BASE`; `rows` is the content hash of the evaluation set.
    `log_likelihoods` are mean nats per answer token, None where the scorer has none.
    """

    module: str
    rows: str
    part: Part
    scores: tuple[float, ...]
    log_likelihoods: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class MemberResult:
    """What one member kept inside a merged module.

    Retentions are ratios, (merged - base) / (single - base): `gate` and its one-sided 90 % lower bound decide,
    `report` (on disjoint rows) is what users see. None: not measured, since an earlier check had failed. The two
    predicted values are the forecast that was measured against; None: there was none, or the bound was infinite.
    """

    revision: str
    gate: float | None
    gate_lower_bound: float | None
    report: float | None
    report_standard_error: float | None
    num_gate_rows: int
    num_report_rows: int
    normalised_accuracy: float | None = None
    predicted_retention: float | None = None
    predicted_lower_bound: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of verifying one recipe. It is a label too: a recipe with a verdict is never tried again.

    `safety_delta` is the module's safety score minus the base's, None without a safety set. `safe_probability` (0..1)
    was forecast by the predictor of that digest, if by any.
    """

    recipe: Recipe
    module: str
    passed: bool
    reason: str
    members: tuple[MemberResult, ...] = ()
    safety_delta: float | None = None
    decided_at: datetime | None = None
    safe_probability: float | None = None
    predictor: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan's action for one adapter, with its reason in a sentence that a person understands.

    `predicted_retention` is the point forecast of Ret inside the recipe's module, `lower_bound` its conformal lower
    bound; None: not forecast, or unbounded. A separate adapter keeps everything by construction, so it has neither.
    """

    adapter: str
    revision: str
    placement: Placement
    action: Action
    reason: str
    recipe: Recipe | None = None
    predicted_retention: float | None = None
    lower_bound: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A group that the plan wants measured: recipes in the order in which to try them, and why this group.

    Forecasts are of the first recipe, one an adapter; `explores`: the bound does not pass.
    """

    adapters: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    reason: str
    predicted_retentions: tuple[float, ...] = ()
    lower_bounds: tuple[float | None, ...] = ()
    explores: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """An action for every adapter, and the groups to try next. `id` and times are given by the caller.

    `rolls_back` names the plan that this one goes back behind, if any.
    """

    id: str
    state: PlanState
    created_at: datetime
    decisions: tuple[Decision, ...] = ()
    trials: tuple[Trial, ...] = ()
    epoch: int | None = None
    finished_at: datetime | None = None
    message: str = ""
    rolls_back: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the bank's history."""

    id: int
    at: datetime
    kind: str
    subject: str
    message: str
    data: Mapping[str, object] = field(default_factory=dict)
