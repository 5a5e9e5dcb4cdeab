"""What a predictor is asked, from what, and what it answers: records only, neither torch nor trees.

References
----------
MergeProbe, arXiv 2606.19549, Eq. 1-3 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.records import MergeProbeError
from probe.vectors import PairFeatures, Vector


class PredictorError(MergeProbeError):
    """A forecast cannot be made, or a predictor not be fitted or read."""


class EvidenceMissing(PredictorError):
    """A merge names an adapter or a pair that the evidence does not hold."""


class SchemaMismatch(PredictorError):
    """Evidence, records or an artefact follow other columns than are read here."""


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """How members would be merged, as far as a forecast depends on it.

    Attributes
    ----------
    operator
        A key of `probe.operators.OPERATORS`; one that the predictor was not fitted on is allowed (transfer).
    norm
        The norm rule; None is the operator's own.
    rank
        Largest rank of any module of the result; None is not known.
    weights
        In the members' order; None is 1 each.
    pruned
        In the members' order: layer band -> share, 0..1, of its adapted modules that is left out; None is nothing.
    """

    operator: str
    norm: str | None = None
    rank: int | None = None
    weights: tuple[float, ...] | None = None
    pruned: tuple[Mapping[str, float], ...] | None = None

    @property
    def action(self) -> str:
        """``prune``, ``reweight`` or ``merge``: as `probe.bank.records.Label` calls it."""
        if any(share > 0 for shares in self.pruned or () for share in shares.values()):
            return "prune"
        return "reweight" if len(set(self.weights or ())) > 1 else "merge"


@dataclass(frozen=True, slots=True)
class Merge:
    """What is asked: two or more members (keys of the evidence), in any order, and how they would be merged."""

    members: tuple[str, ...]
    recipe: MergeRecipe

    def __post_init__(self) -> None:
        count = len(self.members)
        if count < 2 or len(set(self.members)) < count:
            raise PredictorError(f"A merge of {self.members} is no merge; expected two or more different members.")
        for parts in (self.recipe.weights, self.recipe.pruned):
            if parts is not None and len(parts) != count:
                raise PredictorError(f"Got {parts} for the {count} members {self.members}; expected one part a member.")


@dataclass(frozen=True, slots=True, eq=False)
class AdapterEvidence:
    """One adapter as far as it is known.

    Attributes
    ----------
    values
        (len(ADAPTER_COLUMNS),) as `probe.features.adapter_features` gives them; NaN where not measured.
    rho
        Share of its training that was seen, in (0, 1].
    """

    values: Vector
    rho: float


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of the members of some merges.

    Attributes
    ----------
    adapters
        By key: a revision, where the predictor shall know its own adapters again; any other name is new to it.
    pairs
        (first, second) -> as `probe.features.pair_features` gives it; one orientation of a pair is enough.
    """

    adapters: Mapping[str, AdapterEvidence]
    pairs: Mapping[tuple[str, str], PairFeatures]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a merge is predicted to keep; retention is a ratio, 1 = all of the gain, never clipped.

    Attributes
    ----------
    retention
        In the members' order: the point forecast of Ret.
    lower_bound
        In the members' order: the one-sided conformal bound; -inf where there are too few labels for one.
    macro, worst
        Mean and least Ret over the members.
    worst_lower_bound
        Conformal bound of `worst`; -inf where there are too few labels.
    safe_probability
        Calibrated probability that the merge is safe (`probe.bank.ceilings`).
    group
        Which labels gave the radius of the members' bounds, such as ``merge/ta``, ``merge`` or ``all``.
    num_labels
        How many labels there are in that group.
    """

    members: tuple[str, ...]
    retention: tuple[float, ...]
    lower_bound: tuple[float, ...]
    macro: float
    worst: float
    worst_lower_bound: float
    safe_probability: float
    group: str
    num_labels: int
