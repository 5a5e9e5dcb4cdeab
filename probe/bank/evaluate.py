"""Scores of an adapter against its base, with standard errors, and the gate they must pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probe.retention import standard_error
from probe.rows import Outcome

MAX_BASE_SCORE = 0.60
MIN_SINGLE_SCORE = 0.50
MIN_GAIN_STANDARD_ERRORS = 5.0


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its standard error (the sample deviation over the root of the count)."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Base and adapter on the same rows.

    Scores are in [0, 1]; log-likelihoods are mean nats per answer token, None where the rows are
    generated. `gain` pairs the two row by row, so its error is smaller than theirs.
    """

    base: Mean
    single: Mean
    gain: Mean
    base_log_likelihood: float | None
    single_log_likelihood: float | None

    def gate_failures(self) -> tuple[str, ...]:
        """Return why the adapter may not ship, in sentences; nothing if it may."""
        failures = []
        if self.base.value > MAX_BASE_SCORE:
            failures.append(f"base score {self.base.value:.3f} is over {MAX_BASE_SCORE}")
        if self.single.value < MIN_SINGLE_SCORE:
            failures.append(f"adapter score {self.single.value:.3f} is under {MIN_SINGLE_SCORE}")
        if self.gain.value < MIN_GAIN_STANDARD_ERRORS * self.gain.standard_error:
            failures.append(
                f"gain {self.gain.value:.3f} is under {MIN_GAIN_STANDARD_ERRORS:.0f} standard "
                f"errors of {self.gain.standard_error:.3f}"
            )
        if self.gain.value <= 0.0:
            failures.append("the adapter gains nothing over the base")
        return tuple(failures)


def compare(base: Sequence[Outcome], single: Sequence[Outcome]) -> Scores:
    """Compare two outcomes a row; both sequences have the same rows in the same order."""
    gains = [after.score - before.score for before, after in zip(base, single, strict=True)]
    return Scores(
        base=mean([outcome.score for outcome in base]),
        single=mean([outcome.score for outcome in single]),
        gain=mean(gains),
        base_log_likelihood=_log_likelihood(base),
        single_log_likelihood=_log_likelihood(single),
    )


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of at least one value; one value alone has an infinite standard error."""
    return Mean(math.fsum(values) / len(values), standard_error(values))


def _log_likelihood(outcomes: Sequence[Outcome]) -> float | None:
    values = [o.log_likelihood for o in outcomes if o.log_likelihood is not None]
    return mean(values).value if values else None
