"""Options of a fit that takes seconds, and evidence of planted records."""

from __future__ import annotations

from collections.abc import Sequence

from probe.bank.records import Records
from probe.predictors.forecast import AdapterEvidence, Evidence
from probe.predictors.known_features import KnownFeatures
from probe.predictors.options import FitOptions

OPTIONS = FitOptions(num_trees=40, depth=4, num_folds=4, columns_per_block=12)


def evidence_of(records: Records, members: Sequence[str], rhos: Sequence[float] | None = None) -> Evidence:
    """Return what is known of some adapters and all their pairs; finished ones, by default."""
    found = KnownFeatures(records).evidence(members, tuple(rhos or (1.0,) * len(members)))
    assert found is not None
    return found


def with_adapters(evidence: Evidence, **adapters: AdapterEvidence) -> Evidence:
    """Return the evidence with other adapters under some names."""
    return Evidence({**evidence.adapters, **adapters}, evidence.pairs)
