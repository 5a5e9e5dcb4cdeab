"""How cells look on the report's pages."""

from __future__ import annotations

import math

from probe.bank.report.pages import html, in_words, markdown
from probe.bank.report.plots import spaced_ticks
from probe.bank.report.section import Section, Table
from probe.bank.report.statistics import Estimate

ROWS = (("a", 1, 0.5, Estimate(0.5, 0.4, 0.6, 12, "pairs")), ("b", None, math.nan, None))
SECTION = Section("s", "Title", tables=(Table("t", "Table", ("name", "rows", "score", "Ret"), ROWS),))


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    assert "| --- | ---: | ---: | --- |" in markdown([SECTION])
    assert '<th style="text-align:right">rows</th>' in html([SECTION], {})


def test_a_table_without_rows_keeps_its_head() -> None:
    empty = Section("s", "Title", tables=(Table("t", "Table", ("name", "score"), ()),))
    assert "<th" in html([empty], {})


def test_an_interval_and_a_count_stay_on_one_line() -> None:
    assert "0.50 [0.40,\u00a00.60], n\u00a0=\u00a012</td>" in html([SECTION], {})
    assert "0.50 \\[0.40, 0.60\\], n = 12" in markdown([SECTION])


def test_there_is_no_negative_zero() -> None:
    assert in_words(-0.0001) == "0.000"
    assert in_words(Estimate(-0.001, -0.002, -0.0, 3, "x"), "x") == "0.00 [0.00, 0.00], n = 3"


def test_labels_of_an_axis_do_not_touch() -> None:
    assert spaced_ticks({0.5, 0.75, 0.99, 0.995, 1.0}, is_log=False) == [1.0, 0.75, 0.5]
    assert spaced_ticks({2.0, 5.0, 10.0, 100.0}, is_log=True) == [100.0, 10.0, 5.0, 2.0]
