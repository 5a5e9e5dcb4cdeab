"""The swap machine: order of steps, failure at every step, resumption, drain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.engine import EngineError, ReplicaView
from router.records import Action, Placement, Route, RoutingTable
from router.swap import Commit, Done, Drain, Flip, Load, Ports, Unload, Verify, next_step, swap
from tests.engine_contract import check_contract
from tests.fakes import FakeEngine


class Stop(Exception):
    """Raised by a test at the step where it wants the world to end."""


def table(epoch: int, **routes: str) -> RoutingTable:
    return RoutingTable(
        epoch,
        tuple(
            Route(name, "r" * 64, module, Placement.SEPARATE, Action.ROUTE, "test")
            for name, module in sorted(routes.items())
        ),
    )


class World:
    """An engine, a registry of epochs, and the ports between them."""

    def __init__(self, folder: str, **engine: object) -> None:
        self.engine = FakeEngine(**engine)  # type: ignore[arg-type]
        self.committed = RoutingTable()
        self.verified: list[str] = []
        self.waits = 0
        self.folder = folder

    def ports(self, **changed: object) -> Ports:
        ports = {
            "engine": self.engine,
            "load": lambda module: self.engine.load(module, self.folder),
            "verify": self.verified.append,
            "committed_epoch": lambda: self.committed.epoch,
            "commit": self._commit,
            "wait": self._wait,
        }
        return Ports(**(ports | changed))  # type: ignore[arg-type]

    def _commit(self, target: RoutingTable) -> None:
        self.committed = target

    def _wait(self, drain: Drain) -> None:
        self.waits += 1
        for replica in self.engine.replicas:
            replica.in_flight[drain.module] = max(0, replica.in_flight[drain.module] - 1)


@pytest.fixture
def world(tmp_path) -> World:
    return World(str(tmp_path))


def test_the_fake_engine_keeps_the_contract(tmp_path) -> None:
    check_contract(FakeEngine(), "separate-x", str(tmp_path), RoutingTable(0))


def test_first_swap_loads_verifies_commits_flips(world: World) -> None:
    swap(table(1, a="m1", b="m2"), (), world.ports())
    assert world.engine.log == [("load", "m1"), ("load", "m2"), ("flip", "1")]
    assert world.verified == ["m1", "m2"]
    assert world.committed.epoch == 1


def test_the_old_module_drains_before_it_is_unloaded(world: World) -> None:
    swap(table(1, a="m1"), (), world.ports())
    world.engine.replicas[1].in_flight["m1"] = 3
    swap(table(2, a="m2"), ["m1"], world.ports())
    assert world.waits == 3
    assert world.engine.log[-2:] == [("flip", "2"), ("unload", "m1")]


def test_an_idle_module_is_freed_while_another_still_drains() -> None:
    views = (ReplicaView("r", 2, frozenset({"m1", "m2", "m3"}), {"m1": 1}),)
    assert next_step(table(2, a="m3"), 2, ["m3"], views) == Unload("m2")


def test_a_repeated_swap_does_nothing(world: World) -> None:
    swap(table(1, a="m1"), (), world.ports())
    orders = list(world.engine.log)
    swap(table(1, a="m1"), ["m1"], world.ports())
    assert world.engine.log == orders


@pytest.mark.parametrize("order", ["load", "verify", "commit"])
def test_a_failure_before_the_commit_leaves_the_old_epoch_serving(world: World, order: str) -> None:
    swap(table(1, a="m1"), (), world.ports())

    def stop(*_: object) -> None:
        raise Stop

    if order == "load":
        world.engine.fail = lambda o, subject, replica: stop() if (o, subject, replica) == ("load", "m2", 1) else None
    changed = {} if order == "load" else {order: stop}
    with pytest.raises(Stop):
        swap(table(2, a="m2"), ["m1"], world.ports(**changed))
    assert world.committed.epoch == 1
    assert all(replica.table == table(1, a="m1") for replica in world.engine.replicas)
    world.engine.fail = lambda *_: None
    swap(table(1, a="m1"), ["m1"], world.ports())
    assert all(replica.resident == {"m1"} for replica in world.engine.replicas)


@pytest.mark.parametrize("order", ["flip", "unload"])
@pytest.mark.parametrize("replica", [0, 1])
def test_a_failure_after_the_commit_is_taken_up_where_it_happened(world: World, order: str, replica: int) -> None:
    swap(table(1, a="m1"), (), world.ports())

    def fail(seen: str, subject: str, index: int) -> None:
        if (seen, index) == (order, replica):
            raise Stop

    world.engine.fail = fail
    with pytest.raises(Stop):
        swap(table(2, a="m2"), ["m1"], world.ports())
    assert world.committed.epoch == 2
    world.engine.fail = lambda *_: None
    swap(table(2, a="m2"), ["m1", "m2"], world.ports())
    assert all((one.epoch, one.resident) == (2, {"m2"}) for one in world.engine.replicas)


def test_a_late_replica_is_brought_up_without_touching_the_registry(world: World) -> None:
    swap(table(1, a="m1"), (), world.ports())
    world.engine.replicas.append(type(world.engine.replicas[0])())
    swap(table(1, a="m1"), ["m1"], world.ports(commit=None))
    assert world.engine.replicas[2].resident == {"m1"}
    assert world.engine.replicas[2].epoch == 1


def test_an_engine_that_evicts_what_it_was_told_to_hold_is_an_error_and_no_endless_loop(tmp_path) -> None:
    world = World(str(tmp_path), capacity=1)
    with pytest.raises(EngineError, match="max_cpu_loras"):
        swap(table(1, a="m1", b="m2"), (), world.ports())
    assert world.committed.epoch == 0


@given(
    held=st.sets(st.sampled_from("mnop")),
    wanted=st.sets(st.sampled_from("mnop"), min_size=1),
    running=st.dictionaries(st.sampled_from("mnop"), st.integers(0, 2)),
    epochs=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
@settings(deadline=None)
def test_no_step_ever_takes_a_module_from_those_who_need_it(
    held: set[str], wanted: set[str], running: dict[str, int], epochs: tuple[int, int]
) -> None:
    target = table(1, **{name: name for name in wanted})
    committed, replica_epoch = epochs
    views = (ReplicaView("r", min(committed, replica_epoch), frozenset(held), running),)
    match next_step(target, committed, wanted, views):
        case Load(module):
            assert module in wanted - held
        case Commit():
            assert wanted <= held
            assert committed == 0
        case Flip():
            assert wanted <= held
            assert committed == 1
        case Unload(module):
            assert module in held - wanted
            assert not running.get(module)
        case Drain(module, count):
            assert module in held - wanted
            assert running[module] == count > 0
        case Done():
            assert held == wanted
        case Verify():
            raise AssertionError("all were verified")
