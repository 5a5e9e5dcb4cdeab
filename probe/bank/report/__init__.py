"""The report on a bank: from its records alone, a table of sections, each a pure function.

How to add a section: write `probe/bank/report/<name>.py` with a function ``Measurements -> Section`` and add its row to
`SECTIONS`. A section says in its `gaps` what the records are too few for; it never fails on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probe.bank.records import Records
from probe.bank.report.all_domains import all_domains
from probe.bank.report.association import association
from probe.bank.report.conflict import conflict
from probe.bank.report.controls import controls
from probe.bank.report.early_geometry import early_geometry
from probe.bank.report.hypotheses import hypotheses
from probe.bank.report.localisation import localisation
from probe.bank.report.measurements import Measurements
from probe.bank.report.over_pairs import over_pairs
from probe.bank.report.overview import overview
from probe.bank.report.preference import preference
from probe.bank.report.reweighting import reweighting
from probe.bank.report.section import Section
from probe.bank.report.set_size import set_size
from probe.bank.report.utilities import utilities

__all__ = ["SECTIONS", "report_on"]

SECTIONS: Mapping[str, Callable[[Measurements], Section]] = {
    "overview": overview,
    "all-domains": all_domains,
    "conflict": conflict,
    "operators": over_pairs,
    "localisation": localisation,
    "reweighting": reweighting,
    "early": early_geometry,
    "association": association,
    "set-size": set_size,
    "preference": preference,
    "utilities": utilities,
    "controls": controls,
}
"""Key -> section, in the order of the report; the hypotheses follow, made of all their verdicts."""


def report_on(records: Records, on_progress: Callable[[int], None] = lambda _: None) -> tuple[Section, ...]:
    """Return every section of the report.

    Parameters
    ----------
    on_progress
        Told how many sections are computed, of those in `SECTIONS`.
    """
    bank = Measurements(records)
    sections: list[Section] = []
    for section in SECTIONS.values():
        on_progress(len(sections))
        sections.append(section(bank))
    on_progress(len(sections))
    return (*sections, hypotheses(sections))
