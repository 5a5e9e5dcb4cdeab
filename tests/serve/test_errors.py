"""Errors as HTTP: one status for each class of ours, and OpenAI's envelope around the message."""

from __future__ import annotations

import json

import pytest

from probe.records import MergeProbeError
from router.engine import EngineError
from router.history import PlanNotOpen
from router.intake import IntakeError
from router.registry import StaleEpoch, StaleRevision, UnknownAdapter, UnknownPlan
from serve.acts import StalePlan
from serve.errors import STATUS, HttpError, error_response, to_http

EXPECTED = [
    (IntakeError("told", "name", "malformed"), 400, "invalid_request_error", "malformed", "name"),
    (IntakeError("told", "source", "forbidden_source"), 400, "invalid_request_error", "forbidden_source", "source"),
    (IntakeError("told", "source", "too_large"), 413, "request_too_large", "too_large", "source"),
    (IntakeError("told", "tensors", "incompatible"), 422, "incompatible_adapter", "incompatible", "tensors"),
    (UnknownAdapter("told"), 404, "not_found_error", "adapter_not_found", None),
    (UnknownPlan("told"), 404, "not_found_error", "plan_not_found", None),
    (StaleRevision("told"), 409, "conflict_error", "stale_revision", None),
    (StaleEpoch("told"), 409, "conflict_error", "stale_epoch", None),
    (StalePlan("told"), 409, "conflict_error", "stale_plan", None),
    (PlanNotOpen("told"), 409, "conflict_error", "plan_not_open", None),
    (EngineError("told"), 503, "service_unavailable", "engine_not_ready", None),
    (HttpError(401, "told", "invalid_api_key"), 401, "authentication_error", "invalid_api_key", None),
    (HttpError(429, "told", "saturated", retry_after_seconds=1), 429, "rate_limit_error", "saturated", None),
    (MergeProbeError("told"), 500, "server_error", "internal_error", None),
]


@pytest.mark.parametrize(("error", "status", "kind", "code", "param"), EXPECTED, ids=lambda value: str(value))
def test_an_error_becomes_its_status_and_the_envelope(
    error: MergeProbeError, status: int, kind: str, code: str, param: str | None
) -> None:
    answer = error_response(to_http(error))
    assert answer.status_code == status
    assert json.loads(bytes(answer.body)) == {"error": {"message": "told", "type": kind, "param": param, "code": code}}


def test_every_row_of_the_table_is_tested() -> None:
    assert {type(error) for error, *_ in EXPECTED} >= set(STATUS)


def test_a_subclass_has_the_status_of_its_class() -> None:
    class LateEpoch(StaleEpoch):
        pass

    assert to_http(LateEpoch("told")).status == 409


def test_only_errors_that_pass_say_when_to_retry() -> None:
    retries = {
        to_http(error).status for error, *_ in EXPECTED if "retry-after" in error_response(to_http(error)).headers
    }
    assert retries == {429, 503}


def test_only_a_missing_key_asks_for_one() -> None:
    asking = {to_http(e).status for e, *_ in EXPECTED if "www-authenticate" in error_response(to_http(e)).headers}
    assert asking == {401}
