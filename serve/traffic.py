"""What adapters weigh in a plan: the replicas' counts of answered requests, looked at once a tick."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from probe.replacement import replaced_file
from router.bank_state import Candidate
from router.demand import NUM_STEPS, Demand
from router.engine import ReplicaView
from router.records import Adapter
from router.score import traffic_weights
from serve.config import PolicyConfig

log = logging.getLogger("ray.serve")
DEMAND = TypeAdapter(Demand)


class Traffic:
    """Keeps the window of requests, also in a file: a restart forgets the step that runs and no more.

    It is kept whatever adapters weigh, so that a bank whose setting is changed finds a window to go by.

    Parameters
    ----------
    views
        The replicas' views; an empty tuple while no replica answers.
    file
        Where the window is kept.
    """

    def __init__(
        self,
        views: Callable[[], tuple[ReplicaView, ...]],
        clock: Callable[[], datetime],
        file: Path,
        policy: PolicyConfig,
    ) -> None:
        self._views, self._clock, self._file = views, clock, file
        self._is_weighed = policy.weights == "traffic"
        self._demand = _read(file, policy.traffic_window_seconds / NUM_STEPS)

    def look(self) -> None:
        """Take in what the replicas have answered since the last look; called by the tick alone."""
        before, self._demand = self._demand, self._demand.after(self._views(), self._clock())
        if self._demand.steps.keys() != before.steps.keys():
            _write(self._file, self._demand)

    def of(self, names: Iterable[str]) -> dict[str, float]:
        """Return the traffic of adapters as a `BankState` takes it: empty where all weigh the same."""
        return self._demand.traffic(names) if self._is_weighed else {}

    def weights(self, adapters: Iterable[Adapter]) -> dict[str, float]:
        """Return adapter name -> w of the score; names of one content weigh together."""
        staying = [Candidate(adapter) for adapter in adapters if not adapter.leaving]
        weights = traffic_weights(staying, self.of(candidate.adapter.name for candidate in staying))
        return {candidate.adapter.name: weights[candidate.adapter.revision] for candidate in staying}


def _read(file: Path, step_seconds: float) -> Demand:
    """Read a window; an empty one where there is no file, or one that is damaged or has other steps."""
    try:
        kept = DEMAND.validate_json(file.read_bytes())
    except FileNotFoundError:
        return Demand(step_seconds)
    except (OSError, ValidationError) as error:
        log.warning("the window of requests in %s is damaged, so it begins anew: %s", file, error)
        return Demand(step_seconds)
    return kept if kept.step_seconds == step_seconds else Demand(step_seconds)


def _write(file: Path, demand: Demand) -> None:
    with replaced_file(file) as partial:
        partial.write_bytes(DEMAND.dump_json(demand))
