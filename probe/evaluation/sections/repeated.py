"""What measuring the same merges again would foretell: no forecast from signals can do much better."""

from __future__ import annotations

import numpy as np

from probe.bank.ceilings import Ceilings, plain_pairs
from probe.bank.mergeability import is_safe
from probe.bank.records import Label, Records
from probe.bank.report.statistics import Estimate, generator
from probe.evaluation.metrics import auroc, over_adapters
from probe.evaluation.scores import MERGES


def auroc_of_measuring_again(records: Records) -> Estimate:
    """Return the AUROC of the safe label by the worst Ret of a second measurement of the same merges.

    The second one is **simulated**: the first, plus normal noise of its standard error. So noise is in it twice, and
    the figure is rather too low.
    """
    ceilings, known = Ceilings(records), []
    for (members, _), sides in plain_pairs(records).items():
        gains = [ceilings.normalised_gain(side.adapter) for side in sides]
        safe = is_safe([side.retention.value for side in sides], gains)
        if safe is not None:
            known.append((members, sides, safe))
    draw = generator()
    again = np.array([min(_again(side, draw) for side in sides) for _, sides, _ in known], dtype=np.float64)
    safe_ones = np.array([safe for _, _, safe in known], dtype=np.bool_)
    return over_adapters(auroc(again, safe_ones), [members for members, _, _ in known], MERGES)


def _again(label: Label, draw: np.random.Generator) -> float:
    return label.retention.value + label.retention.standard_error * draw.normal()
