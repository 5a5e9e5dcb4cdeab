"""The report shows what was planted, says what is missing, and needs nothing but itself."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from probe.bank.ceilings import Ceilings
from probe.bank.records import Label, Records
from probe.bank.report import SECTIONS, report_on
from probe.bank.report.measurements import Measurements, where
from probe.bank.report.overview import overview
from probe.bank.report.pages import html, markdown, write_report
from probe.bank.report.section import Cell, Outcome, Section, Verdict
from probe.bank.report.set_size import set_size
from probe.bank.report.statistics import Estimate
from tests.probe.planted_records import (
    BAND_RECOVERY,
    FACTS,
    NORM_GROWTH,
    NULL_SIGNAL,
    NUM_ROWS,
    NUM_WEAK_LABELS,
    OPERATOR_RET,
    PREFERENCE_GAIN,
    PRUNED_COST,
    SAFETY_HARM,
    SIGNAL,
    WEAK,
    planted_records,
)


@pytest.fixture(scope="module")
def planted() -> Records:
    return planted_records()


@pytest.fixture(scope="module")
def sections(planted: Records) -> tuple[Section, ...]:
    return report_on(planted)


@pytest.fixture(scope="module")
def folder(sections: tuple[Section, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(sections, out)
    return out


def section_of(sections: tuple[Section, ...], key: str) -> Section:
    return next(section for section in sections if section.key == key)


def rows_of(sections: tuple[Section, ...], section: str, table: str) -> list[tuple[Cell, ...]]:
    return list(next(one for one in section_of(sections, section).tables if one.key == table).rows)


def row_of(sections: tuple[Section, ...], section: str, table: str, *start: Cell) -> tuple[Any, ...]:
    return next(row for row in rows_of(sections, section, table) if row[: len(start)] == start)


def verdict_of(sections: tuple[Section, ...], key: str) -> Verdict:
    return next(verdict for section in sections for verdict in section.verdicts if verdict.key == key)


def test_every_section_of_the_table_is_in_the_report(sections: tuple[Section, ...]) -> None:
    assert [section.key for section in sections] == [*SECTIONS, "hypotheses"]


def test_the_planted_order_of_operators_is_found(sections: tuple[Section, ...]) -> None:
    rows = rows_of(sections, "operators", "operators")
    found = sorted(rows, key=lambda row: -row[1].value)  # type: ignore[union-attr]
    assert [row[0] for row in found] == list(OPERATOR_RET)
    for operator, _, _, difference, *_ in rows:
        if operator != "ta":
            assert isinstance(difference, Estimate)
            assert difference.value == pytest.approx(OPERATOR_RET[str(operator)] - OPERATOR_RET["ta"], abs=0.02)
            assert difference.n == 210
    assert verdict_of(sections, "pico beats ta").outcome == Outcome.CONFIRMED
    assert verdict_of(sections, "ties beats ta").outcome == Outcome.REFUTED


def test_only_the_harmful_band_recovers_when_it_is_pruned(sections: tuple[Section, ...]) -> None:
    for band, recovery in BAND_RECOVERY.items():
        _, _, other, own = row_of(sections, "localisation", "bands", "ta", band)
        assert other.value == pytest.approx(recovery, abs=0.03)
        assert own.value == pytest.approx(-PRUNED_COST, abs=0.03)
    assert verdict_of(sections, "H4, upper layers").outcome == Outcome.CONFIRMED
    assert verdict_of(sections, "H4, prunable").outcome == Outcome.CONFIRMED


def test_the_planted_signal_stands_out_and_the_null_signal_does_not(sections: tuple[Section, ...]) -> None:
    for operator in ("ta", "mean"):
        _, _, strong, p, family_wise = row_of(sections, "association", f"main-{operator}", "rank space", SIGNAL)
        assert strong.high < -0.5
        assert max(p, family_wise) < 0.01
        _, _, null, p, _ = row_of(sections, "association", f"main-{operator}", "activation", NULL_SIGNAL)
        assert null.low < 0 < null.high
        assert p > 0.05
        assert rows_of(sections, "association", f"top-{operator}")[0][1] == SIGNAL
        assert verdict_of(sections, f"overlap in ({operator})").outcome == Outcome.CONFIRMED
        assert verdict_of(sections, f"activation ({operator})").outcome == Outcome.UNDECIDED
    assert row_of(sections, "association", "main-ta", "baseline: metadata")[2].n == 210


def test_safety_is_seen_to_lose_what_was_planted(sections: tuple[Section, ...]) -> None:
    verdict = verdict_of(sections, "Safety is the victim (ta)")
    assert verdict.outcome == Outcome.CONFIRMED
    assert verdict.estimate is not None
    assert verdict.estimate.value == pytest.approx(-SAFETY_HARM, abs=0.04)
    _, _, _, against_safety = row_of(sections, "conflict", "asymmetry", "ta", "math", "safety")
    assert against_safety.value == pytest.approx(SAFETY_HARM, abs=0.06)


def test_table_1_has_the_router_every_operator_and_the_trained_variants(sections: tuple[Section, ...]) -> None:
    rows = {row[0]: row for row in rows_of(sections, "all-domains", "retention")}
    assert rows["router (upper bound)"][1:8] == (1.0,) * 7
    assert {"fisher_core", "lego", "osrm_post", *OPERATOR_RET} <= set(rows)
    assert rows["ta (OSRM-init bank)"][6].value == pytest.approx(0.65, abs=0.01)  # type: ignore[union-attr]
    assert rows["ta (FlyLoRA-static bank)"][6].value == pytest.approx(0.7, abs=0.01)  # type: ignore[union-attr]
    mean, worst = rows["ta"][6], rows["ta"][7]
    assert isinstance(mean, Estimate)
    assert isinstance(worst, Estimate)
    assert mean.low < OPERATOR_RET["ta"] - 0.2 - SAFETY_HARM / 5 < mean.high
    assert worst.value == pytest.approx(OPERATOR_RET["ta"] - 0.2 - SAFETY_HARM, abs=0.05)
    assert (rows["ta"][9], rows["pico"][9]) == (0.803, None)


def test_a_merge_of_preference_deltas_is_compared_with_the_best_one(sections: tuple[Section, ...]) -> None:
    for operator, gain, outcome in (
        ("ta", PREFERENCE_GAIN, Outcome.CONFIRMED),
        ("gam", -PREFERENCE_GAIN, Outcome.REFUTED),
    ):
        row = row_of(sections, "preference", "composition", "weak deltas", operator)
        assert (row[3], row[4]) == ("delta-0", 0.5)
        assert row[6].value == pytest.approx(gain)
        assert verdict_of(sections, f"PDA, weak deltas, {operator}, 4 members").outcome == outcome


def test_labels_without_a_gain_are_counted_and_in_no_mean(planted: Records, sections: tuple[Section, ...]) -> None:
    all_row = row_of(sections, "overview", "labels", "all")
    assert all_row[-1] == NUM_WEAK_LABELS
    bank = Measurements(planted)
    assert WEAK in set(bank.labels["adapter"])
    assert WEAK not in {name for members in bank.pairs["members"] for name in members}


def test_a_pair_of_which_a_gain_is_unknown_has_no_class_and_is_counted(planted: Records) -> None:
    """Nobody asked code-0 its rows alone, so its G is unknown: of 15 adapters it is in 14 pairs."""
    known = [label for label in planted.labels if (label.action, label.adapter) != ("single", "code-0")]
    counted = [overview(Measurements(replace(planted, labels=labels))) for labels in (planted.labels, tuple(known))]
    (full,), (gap,) = ([row for row in rows_of((one,), "overview", "balance") if row[0] == "pico"] for one in counted)
    assert (full[1], full[4]) == (105, 0)
    assert (gap[1], gap[4]) == (105, 14)
    pairs = list(where(Measurements(planted).both_ways, operator="pico").itertuples())
    others = [row.is_safe for row in pairs if "code-0" not in row.members]
    assert 0 < sum(others) < sum(row.is_safe for row in pairs)
    assert (gap[2], gap[3]) == (sum(others), 91 - sum(others))
    assert isinstance(gap[5], Estimate)
    assert (gap[5].value, gap[5].n) == (pytest.approx(sum(others) / 91), 91)


def test_a_set_s_score_weighs_retention_by_gain(planted: Records, sections: tuple[Section, ...]) -> None:
    """G is 1, but 0.8 / 0.9 of the math adapters beside the best, and unknown where rows were not asked alone."""
    _, _, macro, _, score = row_of(sections, "set-size", "sizes", "ta", 2)
    pairs = where(Measurements(planted).pairs, operator="ta")
    kept = pairs[pairs["adapter"].isin(["math-0", "math-2"])]["ret"].sum()
    assert score.value == pytest.approx(macro.value - kept * (1 - 0.8 / 0.9) / 2 / macro.n)
    known = [label for label in planted.labels if (label.action, label.adapter) != ("single", "code-0")]
    less = set_size(Measurements(replace(planted, labels=tuple(known))))
    _, _, macro, _, score = row_of((less,), "set-size", "sizes", "ta", 2)
    assert (macro.n, score.n) == (105, 91)


def test_the_report_and_the_records_have_one_ceiling(planted: Records) -> None:
    """The stranger on the rows of math-0 was asked half of them, and on these math-0 is as good."""
    half = slice(NUM_ROWS // 2)
    labels = tuple(_cut(label, half) if label.members == ("math-1",) else label for label in planted.labels)
    records = replace(planted, labels=labels)
    bank, ceilings = Measurements(records), Ceilings(records)
    assert bank.singles["math-0"].best == 1.0
    assert bank.singles["math-0"].normalised_gain == 1.0
    for name in ("math-0", "math-1", "code-0"):
        assert bank.singles[name].best == ceilings.best(name)
        assert bank.singles[name].normalised_gain == ceilings.normalised_gain(name)
    pairs = where(bank.both_ways, operator="ta").itertuples()
    row = next(row for row in pairs if row.members == ("code-0", "math-0"))
    assert row.mergeability == pytest.approx((row.first + row.second) / 2)


def _cut(label: Label, kept: slice) -> Label:
    return replace(
        label,
        base_scores=label.base_scores[kept],
        single_scores=label.single_scores[kept],
        merged_scores=label.merged_scores[kept],
    )


def test_mergeability_uses_the_best_single_adapter_of_the_bank(planted: Records) -> None:
    bank = Measurements(planted)
    assert bank.singles["math-0"].best == 1.0
    assert bank.singles["math-0"].normalised_gain == pytest.approx(0.8 / 0.9)
    pairs = where(bank.both_ways, operator="ta").itertuples()
    row = next(row for row in pairs if row.members == ("code-0", "math-0"))
    assert row.mergeability == pytest.approx(math.sqrt(0.8 / 0.9) * (row.first + row.second) / 2)


def test_early_geometry_that_was_planted_stable_is_called_fixed(sections: tuple[Section, ...]) -> None:
    _, _, at_2, _, at_10 = row_of(sections, "early", "stability", "rank space", SIGNAL)
    assert at_2.value < 0.8 < 0.95 < at_10.value
    assert verdict_of(sections, "5.6, overlap_in").outcome == Outcome.CONFIRMED
    assert verdict_of(sections, "5.6, cosine").outcome == Outcome.REFUTED
    growth = verdict_of(sections, "5.6, norm")
    assert growth.outcome == Outcome.CONFIRMED
    assert growth.estimate is not None
    assert growth.estimate.value == pytest.approx(NORM_GROWTH, abs=0.05)


def test_controls_stay_out_of_the_ordinary_pairs_and_have_their_own_section(
    planted: Records, sections: tuple[Section, ...]
) -> None:
    ordinary = {name for members in Measurements(planted).pairs["members"] for name in members}
    assert ordinary.isdisjoint({"noise", "twin", "delta-0", "math-osrm"})
    _, _, _, random, shared = row_of(sections, "controls", "retention", "ta")
    assert (random.value, shared.value) == (pytest.approx(0.95, abs=0.02), pytest.approx(0.9, abs=0.01))
    assert row_of(sections, "controls", "signals", SIGNAL)[4].value == 0.98


def test_reweighting_compares_with_equal_weights(sections: tuple[Section, ...]) -> None:
    rows = rows_of(sections, "reweighting", "points")
    assert {row[2] for row in rows} == {"1, 1", "1, 0.5", "0.5, 1"}
    assert row_of(sections, "reweighting", "summary", "ta")[2].value >= 0


def test_what_refutes_the_paper_is_listed_and_nothing_else(sections: tuple[Section, ...]) -> None:
    (listed,) = [text for text in section_of(sections, "hypotheses").text if text.startswith("- ")]
    refuted = [one for section in sections for one in section.verdicts if one.contradicts]
    assert len(listed.splitlines()) == len(refuted) >= 3
    assert "Table 1" in listed
    assert "ties beats ta" not in listed  # a question of ours, not a claim of the paper
    assert "overlap in (ta)" not in listed  # confirmed


def test_a_rule_decides_only_when_the_whole_interval_is_on_one_side() -> None:
    def outcome(low: float, high: float, *, is_above: bool = True) -> Outcome:
        return Verdict("k", "c", "s", "m", Estimate((low + high) / 2, low, high, 9, "x"), 0.5, is_above).outcome

    assert outcome(0.6, 0.9) == Outcome.CONFIRMED
    assert outcome(0.1, 0.4) == Outcome.REFUTED
    assert outcome(0.4, 0.6) == Outcome.UNDECIDED
    assert outcome(0.6, 0.9, is_above=False) == Outcome.REFUTED
    assert outcome(-math.inf, math.inf) == Outcome.UNDECIDED
    assert Verdict("k", "c", "s", "m", None).outcome == Outcome.UNDECIDED


def test_the_same_records_give_the_same_numbers(planted: Records, sections: tuple[Section, ...]) -> None:
    bank = Measurements(planted)
    again = tuple(SECTIONS[key](bank) for key in ("all-domains", "localisation", "preference"))
    assert again == tuple(section_of(sections, one.key) for one in again)


class Loaded(HTMLParser):
    """Collects what a browser would load, and where links within the page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "data") or (name == "href" and tag != "a"):
                self.sources.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")


def test_the_page_holds_every_figure_and_loads_nothing(folder: Path, sections: tuple[Section, ...]) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    loaded = Loaded()
    loaded.feed(page)
    num_figures = sum(len(section.figures) for section in sections)
    assert len(loaded.sources) == num_figures > 15
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in loaded.sources)
    assert re.findall(r"url\(|@import|https?://[^\s<]*", page) == []
    assert {link.removeprefix("#") for link in loaded.links} == {section.key for section in sections} <= loaded.ids


def test_markdown_points_at_pictures_that_exist(folder: Path) -> None:
    named = re.findall(r"\]\(([^)]+\.png)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(path.name for path in folder.glob("*.png"))


def test_the_json_holds_every_table_without_nan(folder: Path, sections: tuple[Section, ...]) -> None:
    found = json.loads((folder / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    tables = {(section["key"], table["key"]) for section in found["sections"] for table in section["tables"]}
    assert tables == {(section.key, table.key) for section in sections for table in section.tables}
    pico = next(verdict for verdict in found["verdicts"] if verdict["key"] == "pico beats ta")
    assert (pico["outcome"], pico["section"], pico["estimate"]["n"]) == ("confirmed", "operators", 210)


def test_names_with_markup_are_shown_as_they_are() -> None:
    facts = replace(FACTS, bank="a_b*c*<script>alert(1)</script>|d")
    sections = report_on(Records(facts, (), ()))
    assert "<script>" not in html(sections, {})
    assert "a_b*c*&lt;script&gt;alert(1)&lt;/script&gt;|d" in html(sections, {})


def test_empty_records_give_a_report_that_says_so() -> None:
    sections = report_on(Records(replace(FACTS, pilot=()), (), ()))
    assert all(section.gaps for section in sections)
    text = markdown(sections)
    assert text.count("Too few records:") >= len(sections)
    assert "undecided" not in {verdict.outcome for section in sections for verdict in section.verdicts}


@pytest.mark.parametrize(
    "keep",
    [
        lambda records: replace(records, labels=()),
        lambda records: replace(records, pair_features=(), adapter_features=()),
        lambda records: replace(records, pair_features=tuple(r for r in records.pair_features if max(r.rhos) < 1)),
        lambda records: replace(records, labels=records.labels[:1]),
        lambda records: replace(records, labels=records.labels[:4]),
        lambda records: replace(records, labels=tuple(one for one in records.labels if one.action == "single")),
        lambda records: replace(records, labels=tuple(one for one in records.labels if not one.is_sound)),
        lambda records: replace(records, labels=tuple(one for one in records.labels if one.operator == "pico")),
        lambda records: replace(records, labels=tuple(one for one in records.labels if one.action == "prune")),
    ],
    ids=["features", "labels", "early", "one", "two-pairs", "singles", "unsound", "no-ta", "prune"],
)
def test_partial_records_give_a_report_with_gaps(keep: Any) -> None:
    sections = report_on(keep(planted_records(adapters_per_domain=1)))
    assert sum(len(section.gaps) for section in sections) >= 2
    pictures = {f"{section.key}-{figure.key}.png": b"" for section in sections for figure in section.figures}
    assert "13. Hypotheses" in html(sections, pictures)
