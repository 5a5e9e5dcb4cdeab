"""The report on an evaluation: a table of sections, each a pure function of what was forecast.

How to add a section: write `probe/evaluation/sections/<name>.py` with a function ``Evaluation -> Section`` and add its
row to `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probe.bank.report.hypotheses import hypotheses
from probe.bank.report.section import Section
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.sections.actions import actions
from probe.evaluation.sections.competition import competition
from probe.evaluation.sections.coverage import coverage
from probe.evaluation.sections.descriptors import descriptors
from probe.evaluation.sections.diagnostics import diagnostics
from probe.evaluation.sections.families import families
from probe.evaluation.sections.gains import gains
from probe.evaluation.sections.lessons import lessons
from probe.evaluation.sections.over_routing import over_routing
from probe.evaluation.sections.protocol import protocol
from probe.evaluation.sections.regimes import regimes
from probe.evaluation.sections.sensitivity import sensitivity

__all__ = ["SECTIONS", "TITLE", "report_on"]

TITLE = "MergeProbe, evaluated"
SECTIONS: Mapping[str, Callable[[Evaluation], Section]] = {
    "protocol": protocol,
    "regimes": regimes,
    "coverage": coverage,
    "baselines": competition,
    "families": families,
    "sensitivity": sensitivity,
    "gains": gains,
    "lessons": lessons,
    "diagnostics": diagnostics,
    "actions": actions,
    "over-routing": over_routing,
    "descriptors": descriptors,
}
"""Key -> section, in the order of the report; the hypotheses follow, made of all their verdicts."""

ELSEWHERE = (
    "H2 to H4 need no predictor: `mergeprobe bank report` judges them, by the same rules. What the paper says of its "
    "figures and tables is judged here beside H1, H5, H6 and H7."
)


def report_on(evaluation: Evaluation) -> tuple[Section, ...]:
    """Return every section of the report."""
    sections = [section(evaluation) for section in SECTIONS.values()]
    return (*sections, hypotheses(sections, ELSEWHERE))
