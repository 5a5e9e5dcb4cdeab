"""Fit a predictor to the records of a bank; the same records and options give the same predictor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from probe.bank.records import Records
from probe.predictors.artefact import Artefact
from probe.predictors.calibration import calibrate
from probe.predictors.card import Card
from probe.predictors.cross_fit import cross_fit
from probe.predictors.dataset import PairRows, pair_rows, schema_of, set_rows
from probe.predictors.folds import adapter_folds
from probe.predictors.forecast import PredictorError
from probe.predictors.gain_training import fit_gain_model
from probe.predictors.held_out import held_out_pairs
from probe.predictors.metrics import metrics_of
from probe.predictors.options import FitOptions as FitOptions
from probe.predictors.pair_training import fit_pair_model
from probe.predictors.predictor import Predictor
from probe.predictors.predictor import write_predictor as write_predictor
from probe.predictors.set_fit import fit_sets
from probe.progress import OnProgress, silent

MIN_ADAPTERS = 8
MIN_LABELS = 40
"""Fewer say nothing of adapters that are not among them: half of them are held out at a time."""


class TooFewLabels(PredictorError):
    """Records hold too little to fit a predictor to."""


def fit(
    records: Records,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress = silent,
    date: str = "",
) -> Predictor:
    """Fit pair, set and gain models, and measure their errors on adapters held out.

    Parameters
    ----------
    date
        Written into the card as it is.

    Raises
    ------
    TooFewLabels
        There are fewer than `MIN_ADAPTERS` adapters or `MIN_LABELS` sound labels of merged pairs, or no merge of which
        it is known whether it is safe.
    SchemaMismatch
        The records' features follow another schema version.
    """
    schema = schema_of(records, options.families)
    pairs, sets = pair_rows(records, schema, options.seed), set_rows(records, schema, options.seed)
    _check(pairs)
    folds = adapter_folds(records.adapters, options.num_folds, options.seed)
    crossed = cross_fit(pairs, folds, schema, options, on_progress)
    on_progress("the final models", 0, 1)
    everything = np.ones(len(pairs.retention), dtype=np.bool_)
    final = fit_pair_model(pairs, everything, schema, options)
    set_fit = fit_sets(sets.rows, crossed, schema, options, on_progress)
    gains, gain_metrics = fit_gain_model(records, folds, schema, options)
    held_out = {"pairs": held_out_pairs(pairs, crossed), "sets": set_fit.held_out}
    metrics = [one for kind, own in held_out.items() for one in metrics_of(kind, own, folds, options.alpha)]
    on_progress("the final models", 1, 1)
    fitted = _adapters(pairs)
    card = Card(
        bank=records.facts.bank,
        base_model=records.facts.base_model,
        records_hash=records_hash(records),
        date=date,
        options=asdict(options) | {"families": sorted(options.families)},
        num_adapters=len(fitted),
        num_pair_labels=pairs.num_labels,
        num_set_merges=set_fit.num_merges,
        left_out={**pairs.left_out, **sets.left_out},
        revisions=tuple(sorted(one.revision for one in records.adapters if one.name in fitted)),
        metrics=tuple(metrics),
        gain=gain_metrics,
    )
    return Predictor(
        Artefact(
            schema=schema,
            pairs=final,
            sets=set_fit.model,
            gains=gains,
            alpha=options.alpha,
            pair_calibration=calibrate(held_out["pairs"], folds, options.alpha),
            set_calibration=calibrate(held_out["sets"], folds, options.alpha),
            card=card,
        )
    )


def _adapters(pairs: PairRows) -> set[str]:
    return {*pairs.victim.tolist(), *pairs.other.tolist()}


def _check(pairs: PairRows) -> None:
    num_adapters = len(_adapters(pairs))
    seen = f"{pairs.num_labels} sound labels of merged pairs, of {num_adapters} adapters"
    if num_adapters < MIN_ADAPTERS or pairs.num_labels < MIN_LABELS:
        raise TooFewLabels(
            f"The records hold {seen}; expected {MIN_LABELS} labels of {MIN_ADAPTERS} adapters or more. Measure more "
            f"pairs (mergeprobe bank label), or use the shipped predictor. Left out: {_told(pairs.left_out)}."
        )
    if not np.isfinite(pairs.is_safe).any():
        raise TooFewLabels(
            f"The records hold {seen}, but of no merge is it known whether it is safe: that needs the labels of both "
            "members, and what every adapter scores alone (mergeprobe bank label)."
        )


def _told(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"


def records_hash(records: Records) -> str:
    """Return the sha256 of what records say: equal records have equal hashes, wherever they are stored."""
    content = hashlib.sha256(repr(records.facts).encode())
    for part in (records.adapters, records.labels, records.adapter_features, records.pair_features):
        for row in part:
            content.update(repr(row).encode())
    return content.hexdigest()
