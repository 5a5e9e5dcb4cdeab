"""Labels of the shipped records are measured again, from the shipped adapters, with the real base model."""

from __future__ import annotations

from pathlib import Path

from probe.bank.measuring import Evaluator
from probe.bank.record_files import SHIPPED_RECORDS, read_records
from probe.bank.verify import SHIPPED_BANK, verify
from probe.embedded import export_embedded_base
from probe.reference import Reference

NUM_LABELS = 3


def test_labels_drawn_at_random_are_what_the_shipped_adapters_give(tmp_path: Path) -> None:
    evaluator = Evaluator(Reference(export_embedded_base(tmp_path)))
    found = verify(read_records(SHIPPED_RECORDS), SHIPPED_BANK, evaluator, num_labels=NUM_LABELS)
    assert len(found.recomputed) == NUM_LABELS
    assert found.passed, [(one.label.members, one.num_flipped, one.likelihood_error) for one in found.recomputed]
