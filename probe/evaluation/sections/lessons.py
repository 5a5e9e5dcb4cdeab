"""Section 8: how AUROC falls with fewer and noisier labels (Appendix G), and whether more of them would help."""

from __future__ import annotations

from probe.bank.report.charts import Curves, Series
from probe.bank.report.pages import in_words
from probe.bank.report.section import OURS, PAPER, Cell, Figure, Section, Table, Verdict, present
from probe.evaluation.evaluation import Evaluation
from probe.evaluation.judged import Judgements
from probe.evaluation.scores import auroc_lead, auroc_of, error_of, spearman_of
from probe.evaluation.sections.regimes import AIM
from probe.evaluation.sections.repeated import auroc_of_measuring_again
from probe.evaluation.sections.rivals import lesson, model_of
from probe.evaluation.settings import LESSONS, MERGES, NOISE, ROWS

GRACEFUL = 0.05
"""AUROC that may be lost where forecasts "degrade gracefully"."""
SOME_NOISE = 0.1
"""Standard deviation of Ret that is asked for the verdict: about that of a label of 96 rows."""


def lessons(of: Evaluation) -> Section:
    """Return the learning curve, and what thinning and noise do."""
    title = "Label noise and learning curve"
    if not lesson(of, MERGES).rows:
        return Section("lessons", title, gaps=("Too few labels to leave any out.",))
    text = (
        "The pair model learns from less, or from worse; what it is tested on stays as it was measured. Fewer rows "
        "make every label noisier and lose those whose gain is no longer 2 standard errors.",
        *_explained(of),
    )
    tables = tuple(_table(of, kind) for kind in (MERGES, ROWS, NOISE))
    return Section("lessons", title, text, present(tables), _figures(of), _verdicts(of))


def _explained(of: Evaluation) -> tuple[str, ...]:
    """Say what stands between the forecast and a perfect one, and whether the aim is missed."""
    found, gained = auroc_of(model_of(of)), auroc_lead(lesson(of, MERGES), lesson(of, MERGES, 0.5))
    helps = "they still help" if gained.is_bounded and gained.low > 0 else "more of them do not visibly help"
    again = in_words(auroc_of_measuring_again(of.records))
    causes = (
        "What one half of a merge's rows says of its worst Ret foretells the safe label of the other half with an "
        f"AUROC of {again}: what that lacks of 1 is noise, and all rows have less. The second half of the labels adds "
        f"{in_words(gained)} to the AUROC: {helps}."
    )
    if found.value >= AIM:
        return (causes,)
    return (f"**The aim of {AIM:g} is missed:** the AUROC is {in_words(found)}, bank-aware at {of.rho:.0%}.", causes)


def _table(of: Evaluation, kind: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for amount, num_labels, pairs in _taught(of, kind):
        is_whole = pairs is lesson(of, MERGES)
        lost = None if is_whole else auroc_lead(lesson(of, MERGES), pairs)
        found = (auroc_of(pairs), lost, spearman_of(pairs), error_of(pairs))
        rows.append((f"{amount:g}", num_labels, len(pairs.adapters), *found))
    columns = (kind, "labels of pairs learnt from", "adapters", "AUROC", "lost", "Spearman", "absolute error of Ret")
    return Table(f"lessons-{kind.split()[-1].lower()}", f"Learning from another {kind}", columns, tuple(rows))


def _taught(of: Evaluation, kind: str) -> list[tuple[float, int, Judgements]]:
    """Return (amount, labels learnt from, forecasts of plain pairs) of one kind of lesson and of all as it is."""
    found = []
    for number, one in enumerate(LESSONS):
        num_labels, judged = of.lessons[number]
        is_whole = (one.kind, one.amount) == (MERGES, 1.0)
        if judged.rows and (one.kind == kind or is_whole):
            amount = 0.0 if kind == NOISE and is_whole else one.amount
            found.append((amount, num_labels, judged.plain_pairs))
    return sorted(found, key=lambda item: item[0])


def _figures(of: Evaluation) -> tuple[Figure, ...]:
    figures = []
    for kind, label in ((MERGES, "labels of pairs that were learnt from"), (ROWS, ROWS)):
        taught = _taught(of, kind)
        x = tuple(float(num_labels) if kind == MERGES else amount for amount, num_labels, _ in taught)
        line = Series("learned model", x, tuple(auroc_of(pairs) for _, _, pairs in taught))
        caption = f"AUROC by {label}, bank-aware at {of.rho:.0%}; error bars: 95 % bootstrap over adapters."
        chart = Curves((line,), label, "AUROC of the safe label", 0.5, is_log=True)
        figures.append(Figure(kind.split()[-1].lower(), caption, chart))
    return tuple(figures)


def _verdicts(of: Evaluation) -> tuple[Verdict, ...]:
    whole, half, noise = lesson(of, MERGES), lesson(of, MERGES, 0.5), lesson(of, NOISE, SOME_NOISE)
    return (
        Verdict(
            "Appendix G, noise",
            f"The predictor degrades gracefully under label noise: {SOME_NOISE:g} of Ret costs less than {GRACEFUL:g}.",
            f"{PAPER}, Appendix G",
            "AUROC with the labels as measured less that with noise, same merges",
            auroc_lead(whole, noise) if noise.rows else None,
            null=GRACEFUL,
            is_above=False,
        ),
        Verdict(
            "Learning curve",
            "More labels would still help: half of them are worse than all.",
            OURS,
            "AUROC with all merges less that with half of them, same tests",
            auroc_lead(whole, half) if half.rows else None,
        ),
    )
