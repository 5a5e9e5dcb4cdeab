"""A small client of the admin plane, for the CLI, the demo and the tests."""

from __future__ import annotations

import time
from typing import Any, Self

import httpx

from probe.records import MergeProbeError

TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.2
WAIT_SECONDS = 600.0


class BankError(MergeProbeError):
    """The bank refused a request, or cannot be reached; `status` is None in the latter case."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BankClient:
    """Speaks to one bank; leaving a `with` block closes its connections.

    Parameters
    ----------
    url
        Base URL, such as `http://127.0.0.1:8000`.
    admin_key
        Key of the admin plane, if it has one.

    Raises
    ------
    BankError
        The URL is none.
    """

    def __init__(self, url: str, admin_key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {admin_key}"} if admin_key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS)
        except httpx.InvalidURL as error:
            raise BankError(f"{url} is no URL ({error}); expected such as http://127.0.0.1:8000") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self._send("GET", path)

    def text(self, path: str) -> str:
        """Return the text of a GET."""
        return self._answer("GET", path).text

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON of a POST."""
        return self._send("POST", path, json=body)

    def act(self, plan_id: str, verb: str, by: str | None, reason: str) -> Any:
        """Approve, reject or roll back a plan; see `POST /bank/plans/{id}/approve`."""
        return self.post(f"/bank/plans/{plan_id}/{verb}", {"by": by, "reason": reason})

    def delete(self, path: str, **query: Any) -> Any:
        """Return the JSON of a DELETE."""
        return self._send("DELETE", path, params=query)

    def register(self, body: dict[str, Any]) -> dict[str, Any]:
        """Register an adapter; see `POST /bank/adapters`."""
        adapter: dict[str, Any] = self.post("/bank/adapters", body)
        return adapter

    def forecast(self, body: dict[str, Any]) -> dict[str, Any]:
        """Forecast an adapter still in training; see `POST /bank/forecast`."""
        found: dict[str, Any] = self._send("POST", "/bank/forecast", json=body, timeout=WAIT_SECONDS)
        return found

    def wait_until_served(self, name: str) -> dict[str, Any]:
        """Return an adapter once clients reach its current revision."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            adapter: dict[str, Any] = self.get(f"/bank/adapters/{name}")
            if adapter["state"] == "serving":
                return adapter
            if adapter["state"] == "refused" or time.monotonic() > deadline:
                raise BankError(f"{name} is not served ({adapter['state']}): {adapter['reason']}")
            time.sleep(POLL_SECONDS)

    def wait_until_gone(self, name: str) -> None:
        """Return once an adapter has drained and is forgotten."""
        deadline = time.monotonic() + WAIT_SECONDS
        while any(adapter["name"] == name for adapter in self.get("/bank/adapters")["adapters"]):
            if time.monotonic() > deadline:
                raise BankError(f"{name} still drains after {WAIT_SECONDS:.0f} s; see GET /bank/events")
            time.sleep(POLL_SECONDS)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        return self._answer(method, path, **options).json()

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            where = self._http.base_url
            raise BankError(f"no bank answers at {where} ({error}); start one with: mergeprobe serve") from None
        if answer.is_error:
            raise BankError(_message(answer), answer.status_code)
        return answer


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text[:200]}"
