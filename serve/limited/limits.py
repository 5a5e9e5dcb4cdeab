"""Sections of the configuration that limit work in processes of their own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from serve.section import Section


class TaskLimits(Section):
    """Limits of one piece of work that runs in a process of its own on the controller's node; one runs at a time."""

    section: ClassVar[str]
    """What the limits are called in the configuration."""

    memory_bytes: int = Field(ge=1 << 20)
    """What it may allocate, its process's libraries apart."""
    timeout_seconds: float = Field(gt=0)
    """How long it may take, once its process has started."""


class MergeConfig(TaskLimits):
    """Limits of one merge."""

    section = "merge"

    memory_bytes: int = Field(2 << 30, ge=1 << 20)
    """Five rank-16 adapters of an 8B model take 1.5 GiB, and 2 GiB are free beside the engine on the 8 GiB machine that
    the README names."""
    timeout_seconds: float = Field(600.0, gt=0)
    """Those adapters take 40 s on one core, and the tick waits."""


class SignalsConfig(TaskLimits):
    """How signals of adapters are measured, which forecasts are made from: weights, and rows through the base model."""

    section = "signals"

    calibrate: bool = True
    """Run calibration rows through the base on the controller's CPU; switch off for bases too large to load there."""
    memory_bytes: int = Field(2 << 30, ge=1 << 20)
    """A calibration of 64 rows fits into 1.5 GiB with SmolLM2-135M in float32; the rest is for longer rows."""
    timeout_seconds: float = Field(1800.0, gt=0)
    """Two cores that train something else at the same time have taken six minutes for an adapter."""
