"""The weights of a plan's score (`probe.plan_score`): what each adapter's retention counts for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.bank_state import Candidate


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
