from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.router.databases import postgres_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """URL of a PostgreSQL cluster that lives as long as the session."""
    with postgres_cluster() as url:
        yield url
