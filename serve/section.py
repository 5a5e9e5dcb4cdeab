"""What every section of the configuration has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and strict about its keys: a typing error is no setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")
