"""One evaluation for all that only reads it: it takes half a minute."""

from __future__ import annotations

import pytest

from probe.bank.records import Records
from probe.bank.report.section import Section
from probe.evaluation.evaluation import Evaluation, evaluate
from probe.evaluation.sections import report_on
from tests.planted_bank import planted_bank
from tests.probe.evaluation.small import PLANTING, SETTINGS


@pytest.fixture(scope="session")
def planted() -> Records:
    return planted_bank(PLANTING)[0]


@pytest.fixture(scope="session")
def evaluated(planted: Records) -> tuple[Evaluation, list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []
    return evaluate(planted, SETTINGS, lambda *progress: told.append(progress)), told


@pytest.fixture(scope="session")
def evaluation(evaluated: tuple[Evaluation, list[tuple[str, int, int]]]) -> Evaluation:
    return evaluated[0]


@pytest.fixture(scope="session")
def sections(evaluation: Evaluation) -> tuple[Section, ...]:
    return report_on(evaluation)
