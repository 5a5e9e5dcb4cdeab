"""The score of a plan (mergeprobe.md, "Policy"): retention kept, less what active adapters cost. All in ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.bank_state import Candidate


def plan_score(kept: Iterable[tuple[float, float]], num_active: int, lambda_cost: float) -> float:
    """Return sum_i w_i min(1, Ret_i) - lambda_cost x active.

    Parameters
    ----------
    kept
        (w_i, Ret_i) of every adapter; a separate one has Ret 1.
    num_active
        Distinct engine modules that the plan needs.
    """
    return sum(weight * min(1.0, retention) for weight, retention in kept) - lambda_cost * num_active


def group_gain(retention: Mapping[str, float], weights: Mapping[str, float], lambda_cost: float) -> float:
    """Return what merging a group adds to a plan's score: a module's cost for each one saved, less what is lost.

    Parameters
    ----------
    retention
        Member -> Ret inside the merged module.
    weights
        Member -> w.
    """
    lost = 0.0
    for member, kept in retention.items():  # a plain loop: a large bank's plan comes here 100,000 times
        if kept < 1.0:
            lost += weights[member] * (1.0 - kept)
    return lambda_cost * (len(retention) - 1) - lost


def traffic_weights(candidates: Iterable[Candidate], traffic: Mapping[str, float]) -> dict[str, float]:
    """Return revision -> w >= 0 with sum w = n over a bank of n adapters: their shares of the traffic, or 1 each.

    Parameters
    ----------
    traffic
        Adapter name -> requests in some window, >= 0; one not named has none. Without a single request all weigh 1.
    """
    names = [(candidate.adapter.name, candidate.adapter.revision) for candidate in candidates]
    requests = {name: traffic.get(name, 0.0) for name, _ in names}
    total = sum(requests.values())
    weights = dict.fromkeys((revision for _, revision in names), 0.0)
    for name, revision in names:  # two names may have one revision
        weights[revision] += len(names) * requests[name] / total if total > 0 else 1.0
    return weights
