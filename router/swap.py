"""The swap machine: from what is observed to the next step, until every replica serves the target table.

Nothing is remembered between steps, so a controller that crashed anywhere simply goes on: the registry says which
epoch is committed, the replicas say what they hold, and the next step follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from router.engine import Engine, EngineError, ReplicaView
from router.records import RoutingTable


@dataclass(frozen=True, slots=True)
class Load:
    """Make a module resident on every replica."""

    module: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Check a resident module before anybody is routed to it."""

    module: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the target table into the registry: from here on the way back is a new epoch."""


@dataclass(frozen=True, slots=True)
class Flip:
    """Make every replica route by the target table."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait for the requests that still run on a module nobody is routed to any more."""

    module: str
    num_requests: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Free a module that is neither routed to nor in use."""

    module: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every replica serves the target table and holds nothing else."""


Step = Load | Verify | Commit | Flip | Drain | Unload | Done


def next_step(
    target: RoutingTable, committed_epoch: int, verified: Collection[str], views: Collection[ReplicaView]
) -> Step:
    """Return the next step towards `target`: load, verify, commit, flip, drain, unload, done.

    Parameters
    ----------
    target
        The table to reach; its epoch is the committed one, or that plus one.
    committed_epoch
        The registry's current epoch.
    verified
        Modules that passed their check, or that the committed table already routes to.
    views
        One view for each live replica, at least one.
    """
    for module in sorted(target.modules):
        if any(module not in view.resident for view in views):
            return Load(module)
    for module in sorted(target.modules):
        if module not in verified:
            return Verify(module)
    if committed_epoch < target.epoch:
        return Commit()
    if any(view.epoch < target.epoch for view in views):
        return Flip()
    return _free_one(target, views)


def _free_one(target: RoutingTable, views: Collection[ReplicaView]) -> Step:
    stale = sorted({module for view in views for module in view.resident} - target.modules)
    running = {module: sum(view.in_flight.get(module, 0) for view in views) for module in stale}
    for module in stale:
        if not running[module]:
            return Unload(module)
    return Drain(stale[0], running[stale[0]]) if stale else Done()


@dataclass(frozen=True, slots=True)
class Ports:
    """The side effects that a swap needs, given by whoever runs it."""

    engine: Engine
    load: Callable[[str], None]
    """Make a module resident on every replica."""
    verify: Callable[[str], None]
    """Check a resident module; raises where it may not serve."""
    committed_epoch: Callable[[], int]
    commit: Callable[[RoutingTable], None]
    wait: Callable[[Drain], None]
    """Pause between two looks at a draining module; raises to give up for now."""


def swap(target: RoutingTable, verified: Collection[str], ports: Ports) -> None:
    """Take steps until every replica serves `target`.

    Whatever raises before `Commit` leaves the old epoch serving: loading and verifying touch no route.

    Raises
    ------
    EngineError
        If an order fails, or a module that was loaded is gone again.
    """
    trusted, loads = set(verified), set[str]()
    while True:
        step = next_step(target, ports.committed_epoch(), trusted, ports.engine.views())
        match step:
            case Load(module):
                _load_once(module, loads, ports)
            case Verify(module):
                ports.verify(module)
                trusted.add(module)
            case Commit():
                ports.commit(target)
            case Flip():
                ports.engine.flip(target)
            case Drain():
                ports.wait(step)
            case Unload(module):
                ports.engine.unload(module)
            case Done():
                return


def _load_once(module: str, loads: set[str], ports: Ports) -> None:
    if module in loads:
        raise EngineError(
            f"module {module} was loaded and is gone again: the engine evicts modules, so it holds fewer than the plan "
            "needs; raise engine.max_cpu_loras or remove adapters"
        )
    loads.add(module)
    ports.load(module)
