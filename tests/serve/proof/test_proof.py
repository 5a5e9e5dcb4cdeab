"""What plans are worth, and the page that tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from probe.bank.record_files import write_records
from probe.bank.records import Records
from probe.bank.report.pages import write_report
from probe.bank.report.statistics import Estimate
from probe.predictors.fitting import write_predictor
from probe.predictors.predictor import Predictor
from router.records import Part
from serve.cli import app
from serve.proof.contest import Outcome
from serve.proof.engine import questions
from serve.proof.methods import MERGEPROBE
from serve.proof.proof import Proof, prove
from serve.proof.recorded_bank import ProofError, RecordedBank, ServedBank
from serve.proof.sections import TITLE, sections_of, served_plans
from serve.proof.worth import Worth


def test_worth_is_the_mean_and_the_least_of_what_was_measured(proof: Proof) -> None:
    (plan,) = proof.outcomes[MERGEPROBE].plans
    told = [value for recipe in plan for value in proof.contest.bank.told(recipe).values()]
    ones = [1.0] * (len(proof.contest.bank.adapters) - len(told))
    outcome = Outcome((plan,))
    assert proof.worth.macro(outcome)[0] == pytest.approx(np.mean(told + ones))
    assert proof.worth.worst(outcome)[0] == pytest.approx(min(told + ones))
    assert np.all(proof.worth.macro(Outcome(((),))) == 1.0)


def test_equally_likely_plans_are_averaged(proof: Proof) -> None:
    plans = proof.outcomes["random groups, ta"].plans[:3]
    single = [proof.worth.worst(Outcome((plan,))) for plan in plans]
    assert proof.worth.worst(Outcome(plans)) == pytest.approx(np.mean(single, axis=0))


def test_the_area_of_a_straight_line_is_its_middle(proof: Proof) -> None:
    ends = proof.outcomes[proof.best_fixed], proof.outcomes["all separate"]
    line = proof.worth.area([], ends)
    assert line == pytest.approx((proof.worth.macro(ends[0]) + proof.worth.macro(ends[1])) / 2)
    assert proof.areas[MERGEPROBE][0] > line[0]


def test_the_report_has_a_row_a_method_and_a_verdict_an_aim(proof: Proof, tmp_path: Path) -> None:
    write_report(sections_of(proof), tmp_path, TITLE)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for name in ("MergeProbe", "all separate", "merge all, ta", "merge all, ties", "random groups, mean", "oracle"):
        assert f"| {name} |" in text or f"| {name} (best of all in hindsight) |" in text
    verdicts = {one["key"]: one for one in json.loads((tmp_path / "report.json").read_text())["verdicts"]}
    assert verdicts.keys() == {"worst", "area", "verifications"}
    assert verdicts["worst"]["outcome"] == "confirmed"
    share = proof.verification_share
    assert share is not None
    assert share.low < share.value < min(share.high, 1 / 3)
    assert "Served by the engine" not in text


def test_a_plan_that_merges_nothing_is_told_as_such(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    nothing = prove(records, predictor, target=1.0)
    assert nothing.contest.mergeprobe.plans == ((),)
    assert nothing.verification_share is None, "nothing has to be measured for it"
    write_report(sections_of(nothing), tmp_path, TITLE)
    verdicts = {one["key"]: one for one in json.loads((tmp_path / "report.json").read_text())["verdicts"]}
    assert verdicts["verifications"]["outcome"] == "undecided"


def test_a_bank_that_is_not_labelled_to_the_end_is_refused(records: Records, predictor: Predictor) -> None:
    groups = [one for one in records.labels if one.operator == "mean" and len(one.members) == 2]
    some = replace(records, labels=tuple(one for one in records.labels if one not in groups[-2:]))
    assert {one.operator for one in prove(some, predictor).contest.bank.groups} == {"ta"}, "mean lacks a pair"
    no_all = tuple(one for one in records.labels if len(one.members) <= 3)
    with pytest.raises(ProofError, match="to the end"):
        prove(replace(records, labels=no_all), predictor)


def test_nothing_is_kept_of_no_gain(records: Records) -> None:
    name = next(one.name for one in records.adapters if not one.is_protected)
    useless = tuple(
        replace(one, single_scores=one.base_scores, merged_scores=one.base_scores)
        if one.members == (name,) and one.adapter == name
        else one
        for one in records.labels
    )
    bank = RecordedBank(replace(records, labels=useless))
    recipe = next(one for one in bank.groups if name in one.members)
    assert np.isnan(Worth(bank).macro(Outcome(((recipe,),)))[0])


def test_forecasts_are_told_beside_what_was_measured(proof: Proof) -> None:
    (table,) = next(one.tables for one in sections_of(proof) if one.key == "hindsight")
    rows = {row[0]: [cell for cell in row[1:] if isinstance(cell, Estimate)] for row in table.rows}
    assert rows.keys() == {"groups of 2", "groups of 3", "all"}
    order, _, _, error, coverage = rows["all"]
    assert order.n == len(proof.contest.bank.groups)
    assert order.value > 0.5, "the planted signal tells what merges keep"
    assert 0 < error.value < 0.3
    assert coverage.n == sum(len(one.members) for one in proof.contest.bank.groups)
    assert 0.8 <= coverage.value <= 1


def test_served_plans_are_told_by_what_the_engine_answered(proof: Proof) -> None:
    bank, plans = proof.contest.bank, served_plans(proof)
    answered = {
        (module, name): bank.of(module, name, Part.REPORT).scores for module, name in questions(bank, plans.values())
    }
    (section,) = (one for one in sections_of(proof, ServedBank(bank.records, answered)) if one.key == "served")
    rows = {row[0]: row for row in section.tables[0].rows}
    told = {row[0]: row for row in sections_of(proof)[1].tables[0].rows}
    assert rows[MERGEPROBE][2] == told[MERGEPROBE][4], "the same answers tell the same"
    assert rows[MERGEPROBE][1] == proof.contest.num_modules


def test_the_command_tells_from_files(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    write_records(tmp_path / "records", records)
    write_predictor(tmp_path / "predictor", predictor)
    out = tmp_path / "out"
    words = ["prove", str(tmp_path / "records"), "--predictor", str(tmp_path / "predictor"), "--out", str(out)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "confirmed" in told.output
    assert {path.name for path in out.iterdir()} >= {"report.md", "report.html", "retention-cost.png"}
