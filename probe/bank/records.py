"""What was measured on a bank: adapters, labels and features; the weights stay behind. Schema version 1.

A records folder holds::

    facts.json             schema version, bank, hardware, dates, commands, versions (`Facts`)
    adapters.parquet       one row an adapter (`AdapterRecord`)
    labels.parquet         one row a measurement (`Label`), guests too, with the figures that follow from it
    adapter_features.parquet, pair_features.parquet
                           one row an adapter (ordered pair) and what was known of it (`FeatureRow`)
    README.md              the data card
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from probe.records import MergeProbeError
from probe.retention import Gain, Retention, gain, retention

SCHEMA_VERSION = 1
"""Raised with every change that an older reader would misread."""


class RecordsError(MergeProbeError):
    """A folder holds no records that this version can read."""


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """One trained adapter: what it was trained for and how, without its tensors.

    Attributes
    ----------
    name, domain, mix
        The mix is the domain's data; adapters of one (domain, mix) share their evaluation rows.
    method
        ``sft``, ``dpo``, ``osrm`` (SFT from the OSRM start), ``flylora`` (SFT with a frozen sparse A) or ``random``
        (never trained: random factors of a trained adapter's norms).
    group
        What belongs together beyond the domain: a preference group, the OSRM set, a shared seed; None is nothing.
    rank, modules, alpha, learning_rate, num_rows, num_tokens, num_steps
        Training grid: ``modules`` is ``attention`` or ``attention+mlp``; tokens are those trained on, all epochs.
    replay
        General questions that the base itself answers, trained on beside each row of the task, >= 0.
    a_seed, data_seed
        Of A's start (independent of the task) and of the rows.
    is_protected
        Never merged by a plan; it is merged here, to measure what would be lost.
    revision
        Content hash (`probe.adapter_io.revision_of`).
    minutes, command, device, precision, versions
        How it was made; versions is package -> version.
    row_set
        Content hash of its evaluation rows: adapters of one (domain, mix) usually share them, but a bank may take in
        adapters of another one.
    """

    name: str
    domain: str
    mix: str
    method: str
    group: str | None
    rank: int
    modules: str
    alpha: int
    learning_rate: float
    num_rows: int
    num_tokens: int
    num_steps: int
    replay: float
    a_seed: int
    data_seed: int
    is_protected: bool
    revision: str
    minutes: float
    command: str
    device: str
    precision: str
    versions: Mapping[str, str]
    row_set: str = ""


@dataclass(frozen=True)
class Label:
    """One measurement: the evaluation rows of `adapter`, answered by one module.

    Everything else follows from the rows' scores, which are kept: row k is the same row under base, single and module.

    Attributes
    ----------
    members
        Names, ascending. One member is that adapter alone, unmerged, on its own rows or on those of another of its
        domain (for U*).
    adapter
        Whose rows were asked; a member, except where there is one member only, or where it is a guest.
    action
        ``merge``, ``reweight``, ``prune`` or ``single``.
    operator, weights, pruned, norm, hyper_parameters, seed
        The recipe (`probe.operators.Recipe`); weights are in the members' order, None is 1 each; ``pruned`` says what
        was left out in words of the plan, such as ``safety:lower`` (member:band), None is nothing.
    rank
        Output rank, the same for all merges of a bank.
    base_scores, single_scores, merged_scores
        (n,) in [0, 1] each.
    base_log_likelihoods, single_log_likelihoods, merged_log_likelihoods
        (n,) mean natural log-probability of a token of the reference answer.
    kept_energy, norm_ratio
        0..1, what truncation to `rank` kept; |merged| over the mean norm of the members. NaN for a single one.
    seconds
        Of merging and asking.
    """

    members: tuple[str, ...]
    adapter: str
    action: str
    operator: str
    weights: tuple[float, ...] | None
    pruned: str | None
    norm: str | None
    hyper_parameters: Mapping[str, float]
    seed: int
    rank: int
    base_scores: tuple[float, ...]
    single_scores: tuple[float, ...]
    merged_scores: tuple[float, ...]
    base_log_likelihoods: tuple[float, ...]
    single_log_likelihoods: tuple[float, ...]
    merged_log_likelihoods: tuple[float, ...]
    kept_energy: float
    norm_ratio: float
    seconds: float

    @property
    def is_guest(self) -> bool:
        """Whether a merge was asked the rows of an adapter that is not in it: what it does to safety, say."""
        return len(self.members) > 1 and self.adapter not in self.members

    @property
    def num_rows(self) -> int:
        """Evaluation rows, n."""
        return len(self.merged_scores)

    @cached_property
    def gain(self) -> Gain:
        """What the single adapter gains over the base on these rows."""
        return gain(self.base_scores, self.single_scores)

    @cached_property
    def retention(self) -> Retention:
        """Ret of Eq. 2, never clipped; NaN where the gain is not positive."""
        return retention(self.base_scores, self.single_scores, self.merged_scores)

    @cached_property
    def log_likelihood_retention(self) -> Retention:
        """Ret of Eq. 2 with the mean answer log-likelihood as the utility."""
        return retention(self.base_log_likelihoods, self.single_log_likelihoods, self.merged_log_likelihoods)

    @property
    def is_sound(self) -> bool:
        """Whether the gain is at least 2 standard errors; a label without that is left out, not clipped."""
        return self.gain.is_significant

    @property
    def normalised_accuracy(self) -> float:
        """U_merged / U_single, >= 0; NaN where the single adapter scores 0."""
        single = math.fsum(self.single_scores)
        return math.fsum(self.merged_scores) / single if single > 0 else math.nan


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Features of an adapter, or of an ordered pair, each with what was known of it at a fraction of its training.

    Attributes
    ----------
    names
        (adapter,) or (first, second).
    rhos
        Share of training of each name, such as 0.02, 0.05, 0.10 or 1; those of a pair differ where a new adapter meets
        a finished one.
    values
        Column name -> value, NaN where it could not be measured; the columns of `probe.features`. A pair's are those of
        ``symmetric``, ``forth`` (first -> second) and ``back``, prefixed by that word and a colon.
    """

    names: tuple[str, ...]
    rhos: tuple[float, ...]
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Facts:
    """How the records were made.

    Attributes
    ----------
    bank, feature_schema
        Preset, and `probe.features.SCHEMA_VERSION`.
    base_model, hardware
        Such as ``2 cores of an AMD EPYC, 24 GiB, no GPU``.
    first_date, last_date
        ISO dates.
    commands, versions
        As typed; package -> version.
    pilot
        The pilot gate's table: rows of name, measured, wanted, passed; empty where no pilot was run.
    """

    bank: str
    feature_schema: int
    base_model: str
    hardware: str
    first_date: str
    last_date: str
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    pilot: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """Everything of one bank, as `write_records` stores it and `read_records` gives it back.

    Attributes
    ----------
    guests
        Labels of merges that were asked the rows of an adapter which is no member: nothing to be learnt from.
    """

    facts: Facts
    adapters: tuple[AdapterRecord, ...]
    labels: tuple[Label, ...]
    adapter_features: tuple[FeatureRow, ...] = field(default=())
    pair_features: tuple[FeatureRow, ...] = field(default=())
    guests: tuple[Label, ...] = field(default=())


def apart_from_guests(labels: Iterable[Label]) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Return the labels to be learnt from, and those of guests, each in their order."""
    every = tuple(labels)
    return tuple(one for one in every if not one.is_guest), tuple(one for one in every if one.is_guest)
