"""The report card of a predictor: what it was fitted on, and how well it forecast adapters that it had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ViewMetrics:
    """How forecasts of one view compare with what was measured; every figure is of held-out adapters.

    Attributes
    ----------
    kind
        ``pairs`` or ``sets``.
    view
        `View.key`.
    num_labels, num_merges
        Labels of single members, and merges of which all members have one.
    mean_absolute_error
        Of a member's Ret.
    spearman
        Rank correlation of forecast and measured Ret; None where either is constant.
    auroc
        Of the safe label; None where only one class was measured.
    safe_share
        Of the merges whose safety is known.
    coverage
        Share of labels at or above their bound, with radii of labels that share no adapter with them by fold.
    bounded_share
        Share of labels that have such a bound at all; coverage is of these, None without any.
    """

    kind: str
    view: str
    num_labels: int
    num_merges: int
    mean_absolute_error: float
    spearman: float | None
    auroc: float | None
    safe_share: float | None
    coverage: float | None
    bounded_share: float


@dataclass(frozen=True, slots=True)
class GainMetrics:
    """How forecasts of an adapter's gain compare: mean absolute error of the model, and of the mean of the others."""

    num_adapters: int
    mean_absolute_error: float
    error_of_the_mean: float


@dataclass(frozen=True, slots=True)
class Card:
    """Facts of a predictor.

    Attributes
    ----------
    bank, base_model
        Of the records.
    records_hash
        sha256 of their content (`probe.predictors.fitting.records_hash`).
    date
        As the caller gave it.
    options
        Of the fit, by name.
    num_adapters, num_pair_labels, num_set_merges
        What it was fitted on.
    left_out
        Reason -> labels that were not.
    revisions
        Of the adapters that it was fitted on: all others are new to it.
    metrics
        Of every view.
    gain
        None where no gain is known.
    """

    bank: str
    base_model: str
    records_hash: str
    date: str
    options: Mapping[str, Any]
    num_adapters: int
    num_pair_labels: int
    num_set_merges: int
    left_out: Mapping[str, int]
    revisions: tuple[str, ...]
    metrics: tuple[ViewMetrics, ...]
    gain: GainMetrics | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Card:
        """Make it from what `as_json` gave."""
        own = {
            "revisions": tuple(fields["revisions"]),
            "metrics": tuple(ViewMetrics(**one) for one in fields["metrics"]),
            "gain": None if fields["gain"] is None else GainMetrics(**fields["gain"]),
        }
        return cls(**{**fields, **own})
