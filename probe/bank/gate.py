"""The pilot gate: whether the tasks are worth a large bank. Its limits are those of the protocol, fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bank.ceilings import Ceilings, PairKey, plain_pairs
from probe.bank.evaluate import MAX_BASE_SCORE, MIN_GAIN_STANDARD_ERRORS, MIN_SINGLE_SCORE
from probe.bank.mergeability import is_safe
from probe.bank.records import Label, Records
from probe.records import MergeProbeError

MAX_SINGLE_SCORE = 0.98
SAFE_SHARE = (0.20, 0.80)
"""Of cross-domain pairs: outside of it there is nothing to predict."""
MAX_EXPLAINED = 0.70
"""Of the variance of Ret, by domain names alone: beyond it a look-up table would do."""


class GateError(MergeProbeError):
    """The records are too few for the pilot gate."""


@dataclass(frozen=True, slots=True)
class GateRow:
    """One condition; `measured` names the worst adapter, or the operator."""

    name: str
    measured: str
    wanted: str
    passed: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def pilot_gate(records: Records) -> tuple[GateRow, ...]:
    """Return the conditions of the pilot gate, in the protocol's order.

    Raises
    ------
    GateError
        No ordinary adapter was asked its own rows, or no cross-domain pair has two sound labels.
    """
    own = _own_labels(records)
    if not own:
        raise GateError("No ordinary adapter was asked its own rows; label the bank first (mergeprobe bank label).")
    return (*_adapter_rows(own), *_pair_rows(records))


def _own_labels(records: Records) -> list[Label]:
    usual = {adapter.name for adapter in records.adapters if adapter.method == "sft"}
    return [label for label in records.labels if label.members == (label.adapter,) and label.adapter in usual]


def _adapter_rows(own: Sequence[Label]) -> tuple[GateRow, ...]:
    base = _worst(own, lambda label: float(np.mean(label.base_scores)))
    least = _worst(own, lambda label: -float(np.mean(label.single_scores)))
    most = _worst(own, lambda label: float(np.mean(label.single_scores)))
    gain = _worst(own, lambda label: -_gain_in_errors(label))
    return (
        GateRow("highest base score", _told(base), f"<= {MAX_BASE_SCORE:g}", base[0] <= MAX_BASE_SCORE),
        GateRow("lowest single score", _told(least, -1), f">= {MIN_SINGLE_SCORE:g}", -least[0] >= MIN_SINGLE_SCORE),
        GateRow("highest single score", _told(most), f"<= {MAX_SINGLE_SCORE:g}", most[0] <= MAX_SINGLE_SCORE),
        GateRow(
            "lowest gain in standard errors",
            _told(gain, -1),
            f">= {MIN_GAIN_STANDARD_ERRORS:g}",
            -gain[0] >= MIN_GAIN_STANDARD_ERRORS,
        ),
    )


def _gain_in_errors(label: Label) -> float:
    gain = label.gain
    if gain.standard_error == 0:  # every row gained the same
        return float(np.copysign(np.inf, gain.value)) if gain.value else 0.0
    return gain.value / gain.standard_error


def _worst(own: Iterable[Label], figure: Callable[[Label], float]) -> tuple[float, str]:
    return max((figure(label), label.adapter) for label in own)


def _told(worst: tuple[float, str], sign: int = 1) -> str:
    return f"{sign * worst[0]:.2f} ({worst[1]})"


def _pair_rows(records: Records) -> tuple[GateRow, ...]:
    share, operator = max((share, operator) for operator, share in safe_shares(records).items())
    labels = _ordered_pairs(records)
    # The operator with most labels; of equals, the first by name.
    counted = min(labels, key=lambda name: (-len(labels[name]), name))
    domains = {adapter.name: adapter.domain for adapter in records.adapters}
    explained = explained_by_domains(labels[counted], domains)
    low, high = SAFE_SHARE
    return (
        GateRow(
            "cross-domain pairs safe under the best operator",
            f"{share:.0%} ({operator})",
            f"{low:.0%} to {high:.0%}",
            low <= share <= high,
        ),
        GateRow(
            "variance of Ret explained by domain names alone",
            f"{explained:.0%} ({counted}, {len(labels[counted])} ordered pairs)",
            f"< {MAX_EXPLAINED:.0%}",
            explained < MAX_EXPLAINED,
        ),
    )


def safe_shares(records: Records) -> Mapping[str, float]:
    """Return operator -> share of its cross-domain pairs that are safe; the best operator has the largest.

    Raises
    ------
    GateError
        No cross-domain pair has two sound labels.
    """
    domains = {adapter.name: adapter.domain for adapter in records.adapters}
    verdicts: dict[str, list[bool]] = {}
    for (members, operator), safe in safe_pairs(records).items():
        if domains[members[0]] != domains[members[1]]:
            verdicts.setdefault(operator, []).append(safe)
    if not verdicts:
        raise GateError(
            "No cross-domain pair has two sound labels; label more pairs, or train adapters that gain more."
        )
    return {operator: sum(found) / len(found) for operator, found in verdicts.items()}


def safe_pairs(records: Records) -> Mapping[PairKey, bool]:
    """Return whether each plainly merged pair is safe, of those with two sound labels and known gains."""
    ceilings = Ceilings(records)
    found: dict[PairKey, bool] = {}
    for pair, sides in plain_pairs(records).items():
        kept, gains = zip(*((one.retention.value, ceilings.normalised_gain(one.adapter)) for one in sides), strict=True)
        safe = is_safe(kept, gains)
        if safe is not None:
            found[pair] = safe
    return found


def explained_by_domains(labels: Sequence[Label], domains: Mapping[str, str]) -> float:
    """Return the adjusted R^2 of Ret, on ordered pairs under one operator, given the two domains' names.

    The fit is additive: one number for the victim's domain plus one for the other's. Adjusted for its number of free
    parameters, since a one-hot fit of noise explains a share of it by chance; at most 1, and 0 or less where names say
    nothing. NaN where all retentions are equal, or there are no more labels than parameters.
    """
    values = np.array([label.retention.value for label in labels])
    others = [_other(label) for label in labels]
    design = np.hstack([_one_hot([domains[x.adapter] for x in labels]), _one_hot([domains[name] for name in others])])
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    total = float(((values - values.mean()) ** 2).sum())
    free = len(values) - int(rank)
    if total == 0 or free <= 0:
        return float("nan")
    left = float(((values - design @ fitted) ** 2).sum())
    return 1 - (left / free) / (total / (len(values) - 1))


def _one_hot(names: Sequence[str]) -> NDArray[np.float64]:
    kinds = sorted(set(names))
    return np.array([[float(name == kind) for kind in kinds] for name in names])


def _other(label: Label) -> str:
    return label.members[1] if label.members[0] == label.adapter else label.members[0]


def _ordered_pairs(records: Records) -> dict[str, list[Label]]:
    """Return operator -> sound labels of plain pairs, both directions."""
    found: dict[str, list[Label]] = {}
    for (_, operator), sides in plain_pairs(records).items():
        found.setdefault(operator, []).extend(sides)
    return found
