"""How often each adapter was asked for lately: a sliding window, read off counts that only grow. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from router.engine import ReplicaView

NUM_STEPS = 24
"""Steps of the window, the one that still runs apart: weights change once a step and not with every request, so that
ticks, previews and plans that wait for a person agree meanwhile."""
PRIOR_REQUESTS = 25
"""Requests that every adapter is credited with, so that a few real ones move no plan, and none at all are no extreme.

Of a merge that is just worth what it loses, w (1 - Ret) = lambda_cost = 0.5, the noise of counting c requests (standard
deviation sqrt(c)) changes the loss by at most 0.5 sqrt(c) / (c + 25) <= 0.05: the default hysteresis.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a replica had answered since it started when it was last seen, by adapter name, and the step of that."""

    step: int
    answered: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests by adapter name in a window of `NUM_STEPS` steps.

    Attributes
    ----------
    step_seconds
        Length of a step; steps are numbered from 1970.
    steps
        Step -> adapter name -> requests; the newest step still runs.
    replicas
        Replica -> what it was last seen to have answered; those not seen for a window are forgotten.
    """

    step_seconds: float
    steps: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    replicas: Mapping[str, Seen] = field(default_factory=dict)

    def after(self, views: Iterable[ReplicaView], now: datetime) -> Demand:
        """Return the demand after a look at the replicas.

        A replica that is new has started since the last look, so all that it answered counts, as it does where counts
        have fallen: it has started again. Without a last look within the window nobody knows how old the counts are,
        so the look is only a beginning.
        """
        step = int(now.timestamp() // self.step_seconds)
        oldest = step - NUM_STEPS
        known = {replica: seen for replica, seen in self.replicas.items() if seen.step >= oldest}
        running, replicas = Counter(self.steps.get(step, {})), dict(known)
        for view in views:
            if known:
                running += _since(known.get(view.replica), view.answered)
            replicas[view.replica] = Seen(step, dict(view.answered))
        past = {number: answered for number, answered in self.steps.items() if oldest <= number < step}
        return replace(self, steps={**past, step: dict(running)}, replicas=replicas)

    def traffic(self, names: Iterable[str]) -> dict[str, float]:
        """Return the requests of adapters as a `BankState` takes them: those of the window, and the credited ones."""
        requests = Counter[str]()
        for number in sorted(self.steps)[:-1]:
            requests.update(self.steps[number])
        return {name: float(PRIOR_REQUESTS + requests[name]) for name in names}


def _since(seen: Seen | None, answered: Mapping[str, int]) -> Counter[str]:
    before = seen.answered if seen else {}
    has_restarted = any(answered.get(name, 0) < count for name, count in before.items())
    return Counter(answered) - Counter({} if has_restarted else before)
