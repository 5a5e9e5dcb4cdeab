"""How far a build is, and how long it will take, in tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """What a build is doing.

    Attributes
    ----------
    adapter, activity
        Such as ``math`` and ``training``.
    share
        How much of that is done, 0..1.
    seconds_left
        Until the whole bank is built, as far as speed so far tells; None before there is any.
    """

    adapter: str
    activity: str
    share: float
    seconds_left: float | None


OnProgress = Callable[[Progress], None]


class TokenClock:
    """Forecasts the end of a build from tokens trained by this process, its scoring and loading included.

    Parameters
    ----------
    tokens
        Adapter -> tokens it is trained on, all epochs, for those that are not finished.
    num_workers
        Processes that build at about this speed.
    now
        Seconds, rising.
    """

    def __init__(
        self, tokens: Mapping[str, int], num_workers: int = 1, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens, self._num_workers, self._now = dict(tokens), num_workers, now
        self._started = now()
        self._finished = 0

    def finish(self, adapter: str) -> None:
        """Take an adapter that this process has built off the list."""
        self._finished += self._tokens.pop(adapter, 0)

    def keep(self, waiting: Collection[str]) -> None:
        """Take those off the list that other processes have built."""
        self._tokens = {adapter: tokens for adapter, tokens in self._tokens.items() if adapter in waiting}

    def seconds_left(self, adapter: str, share: float) -> float | None:
        """Return the forecast, when `share` of an adapter's training is done."""
        current = share * self._tokens.get(adapter, 0)
        done = self._finished + current
        if done <= 0:
            return None
        seconds_a_token = (self._now() - self._started) / done
        return (sum(self._tokens.values()) - current) * seconds_a_token / self._num_workers
