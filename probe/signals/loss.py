"""Loss: what is left of the second adapter's answers, on its own rows, beside the first."""

from __future__ import annotations

from collections.abc import Callable

from probe.profiles import JointLoss
from probe.signals.signal import UNBOUNDED, Family, Need, Pair, PairSignal, Resolution, Values, cross_task_of

LEAST_GAIN = 0.01
"""Nats a token that an adapter must gain on its rows, for shares of its gain to mean anything."""
LEAST_KEPT, MOST_KEPT = -2.0, 2.0
"""Shares are cut off here: an early adapter has gained little, and a ruined one may lose many times that."""

Joint = Callable[[JointLoss], float]
"""Which of the losses with both adapters is looked at."""


def of_sum(loss: JointLoss) -> float:
    """Return the loss where both updates are added."""
    return loss.of_sum


def of_mean(loss: JointLoss) -> float:
    """Return the loss where half of each is."""
    return loss.of_mean


def _kept(joint: Joint) -> Callable[[Pair], Values]:
    def kept(pair: Pair) -> Values:
        loss = cross_task_of(pair).loss
        gain = loss.of_base - loss.of_own
        if gain < LEAST_GAIN:
            return {}
        return {"": min(max((loss.of_base - joint(loss)) / gain, LEAST_KEPT), MOST_KEPT)}

    return kept


def _added(joint: Joint) -> Callable[[Pair], Values]:
    def added(pair: Pair) -> Values:
        loss = cross_task_of(pair).loss
        return {"": joint(loss) - loss.of_own}

    return added


def _row(
    key: str, function: Callable[[Pair], Values], bounds: tuple[float, float], direction: str, source: str
) -> PairSignal:
    return PairSignal(
        key=key,
        family=Family.LOSS,
        function=function,
        resolution=Resolution.WHOLE,
        needs=frozenset({Need.CROSS_TASK}),
        is_symmetric=False,
        cost="one forward of a few of j's rows",
        bounds=bounds,
        direction=direction,
        source=source,
    )


def _kept_row(key: str, joint: Joint, how: str) -> PairSignal:
    direction = f"share of what j gains on its rows that is left {how}; 1 = all of it"
    source = "ours; Ret of arXiv 2606.19549, with losses of calibration rows for the utility"
    return _row(key, _kept(joint), (LEAST_KEPT, MOST_KEPT), direction, source)


def _added_row(key: str, joint: Joint, how: str) -> PairSignal:
    return _row(key, _added(joint), UNBOUNDED, f"nats a token that j's answers lose {how}", "ours")


BESIDE, HALVED = "with i added to it", "with half of each"
PAIR_ROWS = (
    _kept_row("loss_kept_sum", of_sum, BESIDE),
    _kept_row("loss_kept_mean", of_mean, HALVED),
    _added_row("loss_added_sum", of_sum, BESIDE),
    _added_row("loss_added_mean", of_mean, HALVED),
)
