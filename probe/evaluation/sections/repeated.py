"""What measuring the same merges on other rows foretells: how noisy the labels are."""

from __future__ import annotations

import numpy as np

from probe.bank.ceilings import Ceilings, plain_pairs
from probe.bank.mergeability import is_safe
from probe.bank.records import Label, Records
from probe.bank.report.statistics import Estimate
from probe.evaluation.metrics import auroc, over_adapters
from probe.evaluation.scores import MERGES
from probe.retention import retention


def auroc_of_measuring_again(records: Records) -> Estimate:
    """Return the AUROC of the safe label of half of a merge's rows by its worst Ret on the other half.

    Both are noisier than measurements of all rows, so that two of those would agree better.
    """
    ceilings, known = Ceilings(records), []
    for (members, _), sides in plain_pairs(records).items():
        gains = [ceilings.normalised_gain(side.adapter) for side in sides]
        first, second = ([_of_every_other_row(side, start) for side in sides] for start in (0, 1))
        safe = is_safe(first, gains)
        if safe is not None and np.isfinite(second).all():
            known.append((members, min(second), safe))
    again = np.array([worst for _, worst, _ in known], dtype=np.float64)
    safe_ones = np.array([safe for _, _, safe in known], dtype=np.bool_)
    return over_adapters(auroc(again, safe_ones), [members for members, _, _ in known], MERGES)


def _of_every_other_row(label: Label, start: int) -> float:
    scores = label.base_scores, label.single_scores, label.merged_scores
    return retention(*(one[start::2] for one in scores)).value
