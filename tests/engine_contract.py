"""What every engine must do, fake or real: the one contract test, run by `tests/router` and by `tests/e2e`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probe.rows import Row
from router.engine import Engine, EngineError
from router.records import Action, Placement, Route, RoutingTable

ROWS = (
    Row(prompt="The capital of France is", answer=" Paris", scorer="forced"),
    Row(prompt="Two plus two is", answer=" four", scorer="forced"),
    Row(prompt="Once upon a time", answer="", scorer="generated", check={"kind": "refusal", "expected": False}),
)


def check_contract(engine: Engine, module: str, path: str, current: RoutingTable) -> None:
    """Take an engine through load, measure, flip and unload of one module that nobody else uses.

    `current` is the table that the engine serves now; the contract leaves the engine serving the same routes.
    """
    before = engine.views()
    assert before
    assert all(module not in view.resident for view in before)

    with pytest.raises(EngineError):
        engine.load("no-such-module", path + "-that-does-not-exist")
    assert all("no-such-module" not in view.resident for view in engine.views())
    with pytest.raises(EngineError):
        engine.measure(module, ROWS)

    engine.load(module, path)
    engine.load(module, path)  # idempotent
    assert all(module in view.resident and not view.in_flight.get(module, 0) for view in engine.views())

    alone, base = engine.measure(module, ROWS), engine.measure(None, ROWS)
    assert len(alone) == len(ROWS)
    for row, answer, again in zip(ROWS, alone, engine.measure(module, ROWS), strict=True):
        assert again.text == answer.text
        assert again.log_likelihood == (answer.log_likelihood and pytest.approx(answer.log_likelihood, abs=1e-4))
        forced = row.scorer == "forced"
        assert (answer.is_argmax is not None) == (answer.log_likelihood is not None) == forced
        assert (answer.text is not None) == (not forced)
    assert [a.log_likelihood for a in alone] != [b.log_likelihood for b in base]
    answered = {view.replica: view.answered for view in before}
    assert {view.replica: view.answered for view in engine.views()} == answered, "measuring is no traffic"

    route = Route("contract", "0" * 64, module, Placement.SEPARATE, Action.ROUTE, "contract test")
    routed = RoutingTable(current.epoch, tuple(sorted((*current.routes, route), key=lambda r: r.adapter)))
    engine.flip(routed)
    with pytest.raises(EngineError):
        engine.unload(module)
    with pytest.raises(EngineError):
        engine.flip(replace(routed, epoch=current.epoch - 1))
    ghost = replace(route, adapter="ghost", module="separate-that-is-not-loaded")
    with pytest.raises(EngineError):
        engine.flip(replace(routed, routes=(*routed.routes, ghost)))

    engine.flip(current)
    engine.unload(module)
    engine.unload(module)  # idempotent
    assert all(module not in view.resident and view.epoch == current.epoch for view in engine.views())
