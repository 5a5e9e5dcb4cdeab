"""Bearer keys: who may use which plane."""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers

from serve.errors import HttpError


def check_key(headers: Headers, key: str | None, plane: str) -> None:
    """Compare a request's bearer key with the one that its plane asks for; no key configured lets everybody in.

    Raises
    ------
    HttpError
        401, where the key is missing or wrong.
    """
    if key is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise HttpError(401, f"the {plane} needs a key: send 'Authorization: Bearer <key>'", "missing_api_key")
    if not secrets.compare_digest(given.encode(), key.encode()):
        raise HttpError(401, f"this key does not open the {plane}", "invalid_api_key")
