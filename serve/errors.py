"""Errors as HTTP: the one table from exception class to status, and the OpenAI envelope around the message."""

from __future__ import annotations

from starlette.responses import JSONResponse

from probe.records import MergeProbeError
from router.engine import EngineError
from router.history import PlanNotOpen
from router.intake import IntakeError
from router.registry import StaleEpoch, StaleRevision, UnknownAdapter, UnknownPlan
from serve.acts import StalePlan


class HttpError(MergeProbeError):
    """An error that already knows its status.

    Parameters
    ----------
    status
        HTTP status code.
    code
        Stable word for machines, such as `invalid_api_key`.
    param
        The offending field of the request, if one is to blame.
    retry_after_seconds
        Sent as `Retry-After` where given.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after_seconds = status, code, param, retry_after_seconds

    def envelope(self) -> dict[str, object]:
        """Return OpenAI's error object."""
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "incompatible_adapter",
    429: "rate_limit_error",
    503: "service_unavailable",
}


INTAKE = {"malformed": 400, "forbidden_source": 400, "too_large": 413, "incompatible": 422}

STATUS: dict[type[MergeProbeError], tuple[int, str]] = {
    UnknownAdapter: (404, "adapter_not_found"),
    UnknownPlan: (404, "plan_not_found"),
    StaleRevision: (409, "stale_revision"),
    StaleEpoch: (409, "stale_epoch"),
    StalePlan: (409, "stale_plan"),
    PlanNotOpen: (409, "plan_not_open"),
    EngineError: (503, "engine_not_ready"),
}


def to_http(error: MergeProbeError) -> HttpError:
    """Return the HTTP error for any error of ours; one that nobody thought of is a 500."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, IntakeError):
        return HttpError(INTAKE[error.kind], str(error), error.kind, error.field)
    for kind, (status, code) in STATUS.items():
        if isinstance(error, kind):
            return HttpError(status, str(error), code, retry_after_seconds=5 if status == 503 else None)
    return HttpError(500, str(error), "internal_error")


def error_response(error: HttpError) -> JSONResponse:
    """Return an error as a response, with the headers that its status asks for."""
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(error.envelope(), status_code=error.status, headers=headers)
