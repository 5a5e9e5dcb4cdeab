"""The way into the registry and out of it, and how an adapter's state is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from router.intake import IntakeError, Registration
from router.records import Action, Adapter, Placement, Recipe, Route, RoutingTable, Verdict
from router.registry import Registry, StaleRevision, UnknownAdapter
from serve import registrar as registrar_module
from serve.errors import HttpError
from serve.modules import separate_name
from serve.registrar import Registrar

OLD, NEW = "a" * 64, "b" * 64


@dataclass
class Intake:
    """Takes everything in at `revision`, and counts how often it was asked."""

    revision: str = OLD
    asked: list[str] = field(default_factory=list)

    def __call__(self, registration: Registration) -> Adapter:
        self.asked.append(registration.name)
        return Adapter(
            registration.name,
            self.revision,
            registration.source,
            8,
            100,
            domain=registration.domain,
            protected=registration.protected,
        )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    registry.migrate()
    yield registry
    registry.close()


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def registrar(registry: Registry, intake: Intake) -> Registrar:
    return Registrar(registry, intake, protected_domains=("safety",))


def ask(name: str = "math", **fields: object) -> Registration:
    return Registration(name, "/source", **fields)


def route(revision: str, placement: Placement = Placement.SEPARATE) -> Route:
    return Route("math", revision, separate_name(revision), placement, Action.ROUTE, "alone")


def refuse(registry: Registry, revision: str) -> None:
    recipe = Recipe("separate", (revision,), (1.0,), "none", 8)
    registry.put_verdict(Verdict(recipe, separate_name(revision), False, "does nothing"))


def test_registering_is_news_once(registrar: Registrar, registry: Registry) -> None:
    first, is_news = registrar.register(ask(), None)
    assert is_news
    assert first.registered_at is not None
    assert registrar.register(ask(), None) == (first, False)
    assert [event.kind for event in registry.events()] == ["registered"]


def test_the_same_content_from_elsewhere_is_no_news(registrar: Registrar) -> None:
    first, _ = registrar.register(ask(), None)
    assert registrar.register(replace(ask(), source="/moved"), first.revision) == (first, False)


@pytest.mark.parametrize("change", [{"domain": "code"}, {"protected": True}])
def test_other_fields_of_the_same_content_are_news(registrar: Registrar, change: dict[str, object]) -> None:
    registrar.register(ask(), None)
    assert registrar.register(ask(**change), None)[1]


@pytest.mark.parametrize("expected", [NEW, ""])
def test_a_stale_revision_is_refused_before_anything_is_copied(
    registrar: Registrar, registry: Registry, intake: Intake, expected: str
) -> None:
    registrar.register(ask(), None)
    with pytest.raises(StaleRevision, match=OLD):
        registrar.register(ask(), expected)
    assert intake.asked == ["math"]
    assert len(registry.events()) == 1


def test_an_expected_revision_of_an_unknown_adapter_is_stale(registrar: Registrar, intake: Intake) -> None:
    with pytest.raises(StaleRevision, match="none"):
        registrar.register(ask(), OLD)
    assert intake.asked == []
    assert registrar.register(ask(), "")[1], "the empty text means that there is none yet"


def test_a_change_in_the_meantime_is_stale_too(registry: Registry, intake: Intake) -> None:
    def slow(registration: Registration) -> Adapter:
        registry.put_adapter(replace(intake(registration), revision=NEW))  # somebody else was faster
        return intake(registration)

    with pytest.raises(StaleRevision):
        Registrar(registry, slow, ()).register(ask(), "")
    assert registry.adapter("math").revision == NEW


def test_a_refused_source_leaves_no_trace(registry: Registry) -> None:
    def refuse_all(registration: Registration) -> Adapter:
        raise IntakeError("no", "source", "malformed")

    with pytest.raises(IntakeError):
        Registrar(registry, refuse_all, ()).register(ask(), None)
    assert (registry.adapters(), registry.events()) == ((), ())


@pytest.mark.parametrize("fields", [{"protected": True}, {"domain": "safety"}])
def test_a_protected_adapter_leaves_only_by_force(
    registrar: Registrar, registry: Registry, fields: dict[str, object]
) -> None:
    registrar.register(ask(**fields), None)
    with pytest.raises(HttpError, match="force=true") as caught:
        registrar.remove("math", force=False)
    assert (caught.value.status, caught.value.param) == (409, "force")
    assert not registry.adapter("math").leaving
    registrar.remove("math", force=True)
    assert registry.adapter("math").leaving
    assert "by force" in registry.events()[0].message


def test_an_unknown_adapter_cannot_leave(registrar: Registrar, registry: Registry) -> None:
    with pytest.raises(UnknownAdapter, match="ghost"):
        registrar.remove("ghost", force=True)
    assert registry.events() == ()


def test_the_state_is_pending_serving_pending_again_refused_leaving(
    registrar: Registrar, registry: Registry, intake: Intake
) -> None:
    def state() -> tuple[object, object]:
        described = registrar.describe("math")
        return described["state"], described["served_revision"]

    registrar.register(ask(), None)
    assert state() == ("pending", None)
    registry.commit(RoutingTable(1, (route(OLD),)))
    assert state() == ("serving", OLD)
    intake.revision = NEW
    registrar.register(ask(), None)
    assert state() == ("pending", OLD)
    refuse(registry, NEW)
    assert state() == ("refused", OLD)
    assert registrar.describe("math")["reason"] == "does nothing"
    registrar.remove("math", force=False)
    assert state() == ("leaving", OLD)


def test_a_description_shows_the_route(registrar: Registrar, registry: Registry) -> None:
    registrar.register(ask(), None)
    served = replace(route(OLD), placement=Placement.MERGED, action=Action.MERGE, operator="ta", measured_retention=0.9)
    registry.commit(RoutingTable(1, (served,)))
    shown = registrar.describe("math")
    assert (shown["module"], shown["placement"], shown["action"]) == (served.module, "merged", "merge")
    assert (shown["operator"], shown["measured_retention"], shown["epoch"]) == ("ta", 0.9, 1)
    assert not shown["protected"]
    assert registrar.describe_all() == [shown]


@pytest.mark.parametrize(
    ("fields", "placement"), [({"protected": True}, None), ({}, Placement.PROTECTED)], ids=["asked for", "decided"]
)
def test_a_protected_adapter_is_shown_as_such(
    registrar: Registrar, registry: Registry, fields: dict[str, object], placement: Placement | None
) -> None:
    registrar.register(ask(**fields), None)
    if placement:
        registry.commit(RoutingTable(1, (route(OLD, placement),)))
    assert registrar.describe("math")["protected"] is True


def test_waiting_ends_when_the_revision_is_served(registrar: Registrar, registry: Registry) -> None:
    adapter, _ = registrar.register(ask(), None)
    registry.commit(RoutingTable(1, (route(OLD),)))
    registrar.wait_until_served(adapter)


def test_waiting_ends_when_the_revision_is_refused(registrar: Registrar, registry: Registry) -> None:
    adapter, _ = registrar.register(ask(), None)
    refuse(registry, OLD)
    with pytest.raises(HttpError, match="does nothing") as caught:
        registrar.wait_until_served(adapter)
    assert caught.value.status == 422


def test_waiting_is_given_up_in_time(registrar: Registrar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar_module, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(registrar_module, "POLL_SECONDS", 0.01)
    adapter, _ = registrar.register(ask(), None)
    for wait in (lambda: registrar.wait_until_served(adapter), lambda: registrar.wait_until_gone("math")):
        with pytest.raises(HttpError) as caught:
            wait()
        assert (caught.value.status, caught.value.retry_after_seconds) == (503, 10)


def test_an_adapter_that_is_gone_is_waited_for_no_longer(registrar: Registrar) -> None:
    registrar.wait_until_gone("math")
