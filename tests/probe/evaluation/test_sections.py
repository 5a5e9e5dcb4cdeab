"""The report on an evaluation shows what was planted, and says plainly what it is too little for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from probe.bank.mergeability import compatibility
from probe.bank.records import Records
from probe.bank.report.pages import markdown, write_report
from probe.bank.report.section import Cell, Outcome, Section
from probe.bank.report.statistics import Estimate
from probe.evaluation.evaluation import Evaluation, evaluate
from probe.evaluation.pair_learners import LEARNED, PAIR_LEARNERS
from probe.evaluation.sections import SECTIONS, TITLE, report_on
from probe.evaluation.sections.rivals import best_rival
from probe.evaluation.settings import PERMUTED
from probe.evaluation.splits import Regime
from probe.signals import Family
from tests.probe.evaluation.small import SETTINGS


def rows_of(sections: tuple[Section, ...], section: str, table: str) -> list[tuple[Cell, ...]]:
    found = next(one for one in sections if one.key == section)
    return list(next(one for one in found.tables if one.key == table).rows)


def row_of(sections: tuple[Section, ...], section: str, table: str, *names: str) -> tuple[Cell, ...]:
    return next(row for row in rows_of(sections, section, table) if row[: len(names)] == names)


def estimates(row: tuple[Cell, ...]) -> list[Estimate]:
    return [cell for cell in row if isinstance(cell, Estimate)]


def outcome_of(sections: tuple[Section, ...], key: str) -> Outcome:
    return next(verdict.outcome for one in sections for verdict in one.verdicts if verdict.key == key)


def test_every_fit_is_told_of_before_the_end(evaluated: tuple[Evaluation, list[tuple[str, int, int]]]) -> None:
    evaluation, told = evaluated
    done = [one for _, one, _ in told]
    assert done == sorted(done)
    assert {total for _, _, total in told} == {done[-1]}
    assert sum(one.num_fits for one in evaluation.spent) == len(told)


def test_every_section_is_there_and_every_number_names_its_n(sections: tuple[Section, ...]) -> None:
    assert [section.key for section in sections] == [*SECTIONS, "hypotheses"]
    for section in sections:
        for table in section.tables:
            assert len({len(table.columns), *map(len, table.rows)}) == 1
            assert all(
                one.unit and (one.n > 0 or math.isnan(one.value)) for row in table.rows for one in estimates(row)
            )


def test_the_report_is_written_as_pages_and_figures(sections: tuple[Section, ...], tmp_path: Path) -> None:
    paths = write_report(sections, tmp_path, TITLE)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(f"# {TITLE}")
    assert f"<title>{TITLE}" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["title"] == TITLE
    drawn = {path.name for path in paths if path.suffix == ".png"}
    assert {"regimes-auroc.png", "families-alone.png", "coverage-reliability.png"} <= drawn
    assert {"diagnostics-drop.png", "diagnostics-separation.png"} <= drawn
    assert {"actions-frontier.png", "actions-mix.png", "actions-domains.png"} <= drawn
    for word in ("Table 3", "Table 4", "Figure 1a", "Figure 1b", "Figure 1c", "Figure 2a", "Figure 2c", "Figure 3a"):
        assert word in text


def test_metadata_know_nothing_of_the_planted_truth(sections: tuple[Section, ...]) -> None:
    assert outcome_of(sections, "H1") is Outcome.CONFIRMED
    assert outcome_of(sections, "H7") is not Outcome.CONFIRMED


def test_all_baselines_stand_beside_the_learned_model(sections: tuple[Section, ...], evaluation: Evaluation) -> None:
    names = [row[0] for row in rows_of(sections, "baselines", "learners-bank_aware")]
    assert names == [*PAIR_LEARNERS, PERMUTED]
    best = best_rival(evaluation)
    assert best is not None
    assert best.name in ("ridge", "small network")
    null = estimates(row_of(sections, "baselines", "learners-bank_aware", PERMUTED))[0]
    assert null.low <= 0.5 <= null.high


def test_a_baseline_that_is_not_beaten_is_named_plainly(sections: tuple[Section, ...], evaluation: Evaluation) -> None:
    network = {(Regime.BANK_AWARE, LEARNED): evaluation.pairs[Regime.BANK_AWARE, "small network"]}
    same = replace(evaluation, pairs={**evaluation.pairs, **network})
    text = SECTIONS["baselines"](same).text
    assert "**The learned model does not beat, by more than the interval:**" in text
    assert any("bank-aware: small network, lead in AUROC 0.00" in paragraph for paragraph in text)
    assert not any("bank-aware: constant" in paragraph for paragraph in text)


def test_the_family_that_carries_the_truth_is_missed_and_another_is_not(sections: tuple[Section, ...]) -> None:
    needed = estimates(row_of(sections, "families", "auroc", f"minus {Family.RANK_SPACE}"))[1]
    useless = estimates(row_of(sections, "families", "auroc", f"minus {Family.GRADIENT}"))[1]
    assert needed.low > 0
    # Not 0: twenty trees that are given fewer columns of noise are other trees, which no bootstrap over merges knows.
    assert useless.value < needed.value / 2
    assert outcome_of(sections, f"Table 3, minus {Family.RANK_SPACE}") is Outcome.CONFIRMED
    alone = {row[0]: estimates(row)[0] for row in rows_of(sections, "families", "alone")}
    assert alone[str(Family.RANK_SPACE)].value > alone[str(Family.GRADIENT)].value + 0.05


def test_a_forced_merge_loses_what_the_policy_keeps(sections: tuple[Section, ...]) -> None:
    forced = estimates(row_of(sections, "families", "policy-pairs", "forced merge (no policy)"))
    policy = estimates(row_of(sections, "families", "policy-pairs", "all families", "proposed"))
    # Worst Ret, and the share that is kept separate.
    assert policy[1].value > forced[1].high
    assert forced[3].value == 0
    assert 0 < policy[3].value < 1


def test_both_counts_of_active_modules_follow_from_each_other_for_pairs(sections: tuple[Section, ...]) -> None:
    for row in rows_of(sections, "sensitivity", "lambda"):
        *_, modules, separate = estimates(row)
        assert modules.value == pytest.approx((1 + separate.value) / 2)


def test_a_dearer_module_never_separates_more(sections: tuple[Section, ...]) -> None:
    for served in ("by the bound", "proposed"):
        rows = [row for row in rows_of(sections, "sensitivity", "lambda") if row[2] == served]
        shares = [estimates(row)[-1].value for row in rows]
        assert shares == sorted(shares, reverse=True)


def test_the_default_thresholds_are_the_safe_label_itself(sections: tuple[Section, ...]) -> None:
    relabelled = estimates(row_of(sections, "sensitivity", "gamma-delta", "0.6, 0.15"))[0]
    whole = estimates(row_of(sections, "sensitivity", "rho", "10%"))[0]
    assert relabelled == whole


def test_noise_and_fewer_labels_cost_and_are_counted(sections: tuple[Section, ...]) -> None:
    shares = rows_of(sections, "lessons", "lessons-merges")
    assert [row[0] for row in shares] == ["0.125", "0.25", "0.5", "1"]
    assert [row[1] for row in shares] == sorted(row[1] for row in shares)
    noise = {row[0]: estimates(row) for row in rows_of(sections, "lessons", "lessons-ret")}
    assert noise["0.4"][1].value > 0
    assert noise["0.4"][0].value < noise["0"][0].value
    text = "".join(next(one for one in sections if one.key == "lessons").text)
    assert "one half of a merge's rows" in text


def test_a_missed_aim_is_explained_by_noise_and_by_the_learning_curve(
    sections: tuple[Section, ...], evaluation: Evaluation
) -> None:
    reached = "".join(next(one for one in sections if one.key == "lessons").text)
    assert "is missed" not in reached
    poor = {(Regime.BANK_AWARE, LEARNED): evaluation.pairs[Regime.BANK_AWARE, "constant"]}
    text = "".join(SECTIONS["lessons"](replace(evaluation, pairs={**evaluation.pairs, **poor})).text)
    assert "The aim of 0.85 is missed" in text
    assert "what that lacks of 1 is noise" in text
    assert "The second half of the labels adds" in text


def test_actions_add_up_and_the_labels_known_are_worth_most(sections: tuple[Section, ...]) -> None:
    total = estimates(row_of(sections, "actions", "served", "route all"))[0].n
    for row in rows_of(sections, "actions", "mix"):
        assert sum(cell for cell in row if isinstance(cell, int)) == total
    served = {row[0]: estimates(row) for row in rows_of(sections, "actions", "served")}
    assert served["proposed, verified"][1].value >= served["proposed"][1].value
    assert served["route all"][0].value == 1
    area = {row[0]: estimates(row)[0].value for row in rows_of(sections, "actions", "area")}
    assert area["knows the labels"] > area["proposed"] > area["always ties"]
    assert area["proposed"] > area["always ta"]


def test_errors_of_the_bound_are_counted_by_hand(sections: tuple[Section, ...], evaluation: Evaluation) -> None:
    worst = evaluation.predictors[Regime.BANK_AWARE].judged[0.1].pairs.worst
    row = row_of(sections, "over-routing", "errors", "pairs", "point forecast")
    pairs = list(zip(worst.forecast, worst.measured, strict=True))
    assert row[2] == sum(measured >= 0.85 > forecast for forecast, measured in pairs)
    assert row[3] == sum(forecast >= 0.85 > measured for forecast, measured in pairs)
    assert sum(cell for cell in row[2:6] if isinstance(cell, int)) == len(pairs)
    shares = [estimates(row)[1] for row in rows_of(sections, "over-routing", "distance")]
    assert sum(one.n for one in shares) == len(pairs)
    assert shares[0].value > shares[-1].value


def test_safety_of_sets_is_judged_by_the_same_thresholds(evaluation: Evaluation) -> None:
    for row in evaluation.predictors[Regime.BANK_AWARE].judged[0.1].rows:
        if row.labelled.is_safe:
            assert row.worst >= 0.85
            assert compatibility([ret for ret in row.labelled.retention if ret is not None], [1.0] * row.size) >= 0.6


def test_records_that_know_nothing_say_so_in_every_section(planted: Records) -> None:
    blank = replace(planted, adapter_features=(), pair_features=())
    evaluation = evaluate(blank, SETTINGS)
    assert evaluation.rhos == ()
    sections = report_on(evaluation)
    text = markdown(sections, TITLE)
    assert "Features of adapters: nothing can be forecast without them." in text
    assert all(section.gaps for section in sections if section.key != "hypotheses")
    assert all(verdict.outcome is Outcome.UNDECIDED for section in sections for verdict in section.verdicts)
