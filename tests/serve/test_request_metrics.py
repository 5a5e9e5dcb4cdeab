"""What a replica counts of every request; the series themselves are tried in `tests/deploy`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serve import request_metrics
from serve.ingress import CLIENT_LEFT
from serve.request_metrics import RequestMetrics
from serve.routing import Call


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> RequestMetrics:
    """Return metrics whose series go nowhere."""

    def series(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(inc=lambda *_, **__: None, observe=lambda *_, **__: None)

    monkeypatch.setattr(request_metrics, "metrics", SimpleNamespace(Counter=series, Histogram=series))
    return RequestMetrics()


def finish(requests: RequestMetrics, name: str, status: int = 200) -> None:
    requests.finished(Call(name, SimpleNamespace(lora_name="merged-1")), status, 0.1, 5)


def test_answers_are_counted_by_the_adapter_whatever_module_and_spelling_of_its_name(requests: RequestMetrics) -> None:
    for name in ("math", "base:math", "code"):
        finish(requests, name)
    assert requests.answered == {"math": 2, "code": 1}


@pytest.mark.parametrize("status", [400, 404, 429, CLIENT_LEFT, 500])
def test_what_was_not_answered_is_no_traffic(requests: RequestMetrics, status: int) -> None:
    finish(requests, "math", status)
    assert requests.answered["math"] == 0
