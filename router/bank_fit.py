"""Fit the simulator to a measured bank: retentions of pairs, simulated so that their quantiles are the measured ones.

The fit is shown, quantile by quantile; what it cannot tell (how well a predictor forecasts, what no signal shows) keeps
the model's defaults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from probe.bank.records import Label, Records
from probe.operators import OPERATORS
from router.records import Recipe
from router.simulated_bank import BankModel, SimulatedBank, SimulationError

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
OPERATORS_FITTED = ("ta", "mean")
"""Those that every bank is measured under, and that the model tells apart."""
MIN_LABELS = 8
"""Of one kind of pair under one operator: fewer have no quantiles to speak of."""
NUM_SIMULATED = 40
"""Adapters of the bank that is simulated for a fit: 8 of each domain give 700 pairs."""

MAX_STEPS = 150
"""Of the search: more changed no quantile by 0.01 on planted banks."""
_GRID = tuple(
    {"within": within, "overlap": within / 4, "conflict": conflict, "spread": spread}
    for within in (0.2, 0.5, 0.8)
    for conflict in (0.1, 0.3, 0.9)
    for spread in (0.4, 1.0)
)

Kind = tuple[bool, str, str]
"""Whether both members are of one domain; operator; norm rule."""
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FitRow:
    """Quantiles (`QUANTILES`) of the retentions of one kind of pair: measured beside simulated."""

    within_domain: bool
    operator: str
    norm: str
    num_labels: int
    measured: tuple[float, ...]
    simulated: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """A model, and how well it describes the bank.

    Attributes
    ----------
    error
        Root mean square difference of the quantiles, a ratio.
    """

    model: BankModel
    rows: tuple[FitRow, ...]
    error: float


def fitted(records: Records, start: BankModel) -> Fit:
    """Fit the cosines, the conflict and its spread to measured pairs; the noise is that of the labels.

    Parameters
    ----------
    start
        Where the search starts, and what is not fitted.

    Raises
    ------
    SimulationError
        The records hold too few merges of pairs.
    """
    measured, noise = _measured(records)
    if not measured:
        raise SimulationError(
            f"The records hold no kind of pair with {MIN_LABELS} merges by {' or '.join(OPERATORS_FITTED)} and a gain "
            "of 2 standard errors; label more pairs, or simulate without records."
        )
    start = replace(start, label_noise=noise)
    wanted = {kind: np.quantile(values, QUANTILES) for kind, values in measured.items()}

    def loss(point: Values) -> float:
        simulated = _simulated(_model(point, start), list(wanted))
        return float(np.mean([np.mean((simulated[kind] - wanted[kind]) ** 2) for kind in wanted]))

    # The loss has several valleys: the search starts in the deepest of a coarse grid.
    grid = (_point(replace(start, **parts)) for parts in _GRID)
    best = min(grid, key=loss)
    found = minimize(loss, best, method="Nelder-Mead", options={"maxfev": MAX_STEPS, "xatol": 0.01, "fatol": 1e-6})
    model = _model(found.x, start)
    simulated = _simulated(model, list(wanted))
    rows = tuple(
        FitRow(*kind, len(measured[kind]), tuple(wanted[kind].tolist()), tuple(simulated[kind].tolist()))
        for kind in sorted(wanted)
    )
    return Fit(model, rows, float(np.sqrt(found.fun)))


def _measured(records: Records) -> tuple[dict[Kind, Values], float]:
    """Return the retentions of plainly merged pairs of plainly trained adapters by kind, and their standard error."""
    domains = {adapter.name: adapter.domain for adapter in records.adapters if adapter.method == "sft"}
    values: defaultdict[Kind, list[float]] = defaultdict(list)
    errors: list[float] = []
    for label in records.labels:
        if _is_plain_pair(label, domains):
            one, other = label.members
            norm = label.norm or OPERATORS[label.operator].norm
            values[domains[one] == domains[other], label.operator, norm].append(label.retention.value)
            errors.append(label.retention.standard_error)
    enough = {kind: np.array(found) for kind, found in values.items() if len(found) >= MIN_LABELS}
    return enough, float(np.median(errors)) if errors else 0.0


def _is_plain_pair(label: Label, domains: Mapping[str, str]) -> bool:
    return (
        label.action == "merge"
        and len(label.members) == 2
        and label.operator in OPERATORS_FITTED
        and label.is_sound
        and all(member in domains for member in label.members)
    )


def _simulated(model: BankModel, kinds: Sequence[Kind]) -> dict[Kind, Values]:
    """Return quantiles of each kind in a simulated bank, label noise included."""
    bank = SimulatedBank(NUM_SIMULATED, model)
    domain = {adapter.revision: adapter.domain for adapter in bank.adapters}
    rng = np.random.default_rng(0)  # the same noise for every model, so that the loss is smooth
    quantiles: dict[Kind, Values] = {}
    for within, operator, norm in kinds:
        pairs = [pair for pair in combinations(sorted(domain), 2) if (domain[pair[0]] == domain[pair[1]]) == within]
        kept = bank.retention([Recipe(operator, pair, (1.0, 1.0), norm, 16) for pair in pairs])
        noisy = kept + model.label_noise * rng.standard_normal(kept.shape)
        quantiles[within, operator, norm] = np.asarray(np.quantile(noisy, QUANTILES), dtype=np.float64)
    return quantiles


def _point(model: BankModel) -> Values:
    """Return the fitted parameters without limits: logits of within and of overlap / within, logs of the others."""
    shares = np.array([model.within, model.overlap / model.within])
    shares = np.clip(shares, 0.01, 0.99)
    return np.concatenate([np.log(shares / (1 - shares)), np.log([model.conflict, model.spread])])


def _model(point: Values, start: BankModel) -> BankModel:
    within, ratio = (1 / (1 + np.exp(-np.clip(point[:2], -10, 10)))).tolist()
    conflict, spread = np.exp(np.clip(point[2:], -7, 2)).tolist()
    return replace(start, within=within, overlap=within * ratio, conflict=conflict, spread=spread)
