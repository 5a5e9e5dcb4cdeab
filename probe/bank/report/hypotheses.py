"""Section 13: every claim that needs no predictor, judged by a rule that was stated before the measurement."""

from __future__ import annotations

from collections.abc import Sequence

from probe.bank.report.section import Cell, Section, Table, Verdict, escaped

NEED_A_PREDICTOR = (
    ("H1", "Early features predict final mergeability above metadata baselines."),
    ("H5", "The four-way policy beats any single fixed operator at matched cost."),
    ("H6", "Predictions transfer across domains and operators."),
    ("H7", "Data descriptors capture data-induced differences of mergeability."),
)
"""Of the paper's Appendix C; they are judged where the predictor is fitted."""


ELSEWHERE = (
    "Needs a predictor, so not judged here: "
    + "; ".join(f"{key} ({claim[0].lower()}{claim[1:-1]})" for key, claim in NEED_A_PREDICTOR)
    + "."
)


def hypotheses(sections: Sequence[Section], elsewhere: str = ELSEWHERE) -> Section:
    """Gather the verdicts of all sections, and say plainly which contradict the paper.

    Parameters
    ----------
    elsewhere
        Which claims are judged in another report.
    """
    verdicts = [(section, verdict) for section in sections for verdict in section.verdicts]
    contradicting = [verdict for _, verdict in verdicts if verdict.contradicts]
    text = (
        "Each rule was fixed before anything was measured: the whole 95 % interval on the claimed side of the null "
        "confirms, the whole interval on the other side refutes, anything else is undecided. Their number is not "
        "corrected for: of 20 true nulls one is decided by chance.",
        elsewhere,
        "**Where the measurement contradicts the paper**",
        _contradictions(contradicting),
    )
    rows = tuple(_row(section, verdict) for section, verdict in verdicts)
    columns = ("claim", "verdict", "estimate", "null", "measure", "source", "section")
    gaps = () if verdicts else ("No section has a verdict: there are too few records.",)
    return Section(
        "hypotheses",
        "Hypotheses and verdicts",
        text,
        (Table("verdicts", "Verdicts", columns, rows),) if rows else (),
        gaps=gaps,
    )


def _contradictions(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "Nothing that was measured refutes a claim of a paper; what is undecided does not support it either."
    return "\n".join(
        f"- **{escaped(verdict.key)}.** {verdict.source}: “{escaped(verdict.claim)}” Measured: {_evidence(verdict)}."
        for verdict in verdicts
    )


def _evidence(verdict: Verdict) -> str:
    found = verdict.estimate
    assert found is not None, "a refuted claim has an estimate"
    interval = f"[{found.low:.2f}, {found.high:.2f}], n = {found.n} {found.unit}"
    return f"{escaped(verdict.measure)} is {found.value:.2f} {interval}"


def _row(section: Section, verdict: Verdict) -> tuple[Cell, ...]:
    claim = f"{verdict.key}: {verdict.claim}"
    side = ">" if verdict.is_above else "<"
    return (
        claim,
        str(verdict.outcome),
        verdict.estimate,
        f"{side} {verdict.null:g}",
        verdict.measure,
        verdict.source,
        section.title,
    )
