"""Recompute labels of shipped records from adapters on disk, and test jointly whether they are the same.

The rows are the same and decoding is greedy, so on the machine that measured them recomputed labels are equal, row by
row, and a difference has no variance of its own to be compared with. What may differ elsewhere is rounding: another
processor sums in another order, and of two tokens that are almost equally likely the other one wins. So each label
gives two terms, each of about the size of a chi-squared variable with one degree of freedom, or smaller, as long as
only rounding differs:

- f flipped scores among n rows, against an allowance of `FLIPPED`: (f - n q)^2 / (n q (1 - q)) for f > n q, else 0;
- the squared ratio of the rows' root mean square difference of log-likelihood to an allowance of `LIKELIHOOD_ERROR`.

The second sees a wrong module even where both score 0 on every row. Their sum is tested against chi-squared with two
degrees of freedom a label, at `LEVEL`. One label of another operator is off by tenths of a nat, and adds a hundred.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from probe.adapter_io import CONFIG_FILE, read_adapter, revision_of
from probe.bank.adapter_folder import EVALUATION_FILE
from probe.bank.labelling.measurement import Measurement, Stage, needs_data
from probe.bank.labelling.members import row_set_of
from probe.bank.material import evaluation_rows
from probe.bank.measuring import Answered, Evaluator
from probe.bank.presets import PRESETS
from probe.bank.records import AdapterRecord, Label, Records
from probe.operators import merge
from probe.records import MergeProbeError
from probe.rows import Row, read_rows, write_rows

NUM_LABELS = 10
LEVEL = 0.01
"""Records are refused where a sum of terms as large is less probable than this."""
FLIPPED = 0.005
"""q: share of rows whose score rounding may flip; half a row of 96."""
LIKELIHOOD_ERROR = 0.02
"""Nats: root mean square difference that rounding may make of a row's log-likelihood."""

SHIPPED_BANK = Path(__file__).parent / "data" / "demo"
"""The adapters that come with the package."""


class VerifyError(MergeProbeError):
    """No label can be recomputed from the adapters at hand."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A label, and what its module answers now."""

    label: Label
    answered: Answered

    @property
    def num_flipped(self) -> int:
        """Rows whose score is another one."""
        pairs = zip(self.label.merged_scores, self.answered.scores, strict=True)
        return sum(before != after for before, after in pairs)

    @property
    def likelihood_error(self) -> float:
        """Root mean square difference of the rows' log-likelihoods, nats."""
        difference = np.subtract(self.label.merged_log_likelihoods, self.answered.log_likelihoods)
        return float(np.sqrt(np.mean(difference**2)))

    @property
    def terms(self) -> tuple[float, float]:
        """The two terms of the module's docstring, >= 0."""
        expected = FLIPPED * self.label.num_rows
        excess = max(0.0, self.num_flipped - expected)
        return excess**2 / (expected * (1 - FLIPPED)), (self.likelihood_error / LIKELIHOOD_ERROR) ** 2


@dataclass(frozen=True, slots=True)
class Verification:
    """All recomputed labels and their joint test."""

    recomputed: tuple[Recomputed, ...]

    @property
    def statistic(self) -> float:
        """Sum of all terms."""
        return float(sum(sum(one.terms) for one in self.recomputed))

    @property
    def degrees_of_freedom(self) -> int:
        """Two a label."""
        return 2 * len(self.recomputed)

    @property
    def p_value(self) -> float:
        """Probability of a sum as large if only rounding differs, at least."""
        return float(chi2.sf(self.statistic, self.degrees_of_freedom))

    @property
    def passed(self) -> bool:
        """Whether the records stand."""
        return self.p_value > LEVEL


def verify(
    records: Records, bank: Path, evaluator: Evaluator, *, num_labels: int = NUM_LABELS, seed: int = 0
) -> Verification:
    """Recompute labels drawn at random among those that can be.

    These are the labels of merges all of whose members lie in `bank` with the very tensors that were measured, but for
    operators that read calibrations. The evaluation rows are those beside the adapter, or those that the bank's preset
    makes, whichever has the recorded content.

    Raises
    ------
    VerifyError
        There is none, or the rows that it was measured on cannot be had.
    """
    folders = {path.parent.name: path.parent for path in bank.glob(f"*/{CONFIG_FILE}")}
    recorded = {adapter.name: adapter for adapter in records.adapters}
    known = {name for name, folder in folders.items() if _is_recorded(name, folder, recorded)}
    able = [label for label in records.labels if label.action != "single" and known.issuperset(label.members)]
    able = [label for label in able if not needs_data(_measurement(label))]
    if not able:
        raise VerifyError(
            f"None of {len(records.labels)} labels has all its members in {bank}, unchanged; name the bank that they "
            "were measured on with --bank."
        )
    drawn = random.Random(seed).sample(able, min(num_labels, len(able)))  # noqa: S311 - a draw, not a key
    asked = {label.adapter for label in drawn}
    rows = {name: _rows_of(recorded[name], folders[name], records.facts.bank) for name in sorted(asked)}
    return Verification(tuple(_recompute(label, folders, rows[label.adapter], evaluator) for label in drawn))


def _is_recorded(name: str, folder: Path, recorded: Mapping[str, AdapterRecord]) -> bool:
    return name in recorded and recorded[name].revision == revision_of(folder)


def _measurement(label: Label) -> Measurement:
    return Measurement(
        Stage.PAIRS,
        label.members,
        (label.adapter,),
        label.operator,
        weights=label.weights,
        pruned=label.pruned,
        norm=label.norm,  # type: ignore[arg-type]  # `merge` refuses what it does not know
        seed=label.seed,
    )


def _recompute(label: Label, folders: Mapping[str, Path], rows: Sequence[Row], evaluator: Evaluator) -> Recomputed:
    updates = {name: read_adapter(folders[name]) for name in label.members}
    recipe = replace(_measurement(label).recipe(updates, label.rank), hyper_parameters=label.hyper_parameters)
    merged = merge(list(updates.values()), recipe)
    with evaluator.fused(merged.update):
        return Recomputed(label, evaluator.ask(rows[: label.num_rows]).rounded())


def _rows_of(adapter: AdapterRecord, folder: Path, bank: str) -> tuple[Row, ...]:
    beside = folder / EVALUATION_FILE
    if beside.is_file() and row_set_of(beside) == adapter.row_set:
        return read_rows(beside)
    made = _rows_by_preset(adapter.name, bank)
    if made and _row_set(made) == adapter.row_set:
        return made
    raise VerifyError(
        f"The evaluation rows of {adapter.name!r} have the content {adapter.row_set}; neither {beside} nor the preset "
        f"{bank!r} gives them: name the bank that was measured with --bank."
    )


def _rows_by_preset(name: str, bank: str) -> tuple[Row, ...]:
    """Return the evaluation rows that the bank's preset makes for an adapter; none if it knows no such adapter."""
    preset = PRESETS.get(bank)
    known = {recipe.name: recipe for recipe in preset.recipes} if preset else {}
    return evaluation_rows(preset, known[name]) if preset and name in known else ()


def _row_set(rows: Sequence[Row]) -> str:
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / EVALUATION_FILE
        write_rows(made, rows)
        return row_set_of(made)
