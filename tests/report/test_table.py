"""The cells: scores with intervals, costs with changes, and nothing invented where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fewpairs.report import Comparison, Difference, Row
from fewpairs.report.table import (
    Cell,
    class_tables,
    differences_table,
    further_table,
    run_classes_table,
    seeds_table,
    summary_table,
)

carried = partial(Difference, over="cases and seeds", units=40, seeds=6)
"""A difference from trainings and cases enough for a verdict about the method."""


def test_summary_has_cost_scores_and_verdict(comparison: Comparison) -> None:
    table = summary_table(comparison)
    assert table.columns == (
        *("Recipe", "Parameters", "MACs", "Step (ms)", "Memory (MiB)"),
        *("Jaccard", "Weighted Jaccard", "Dice", "HD95 (mm)", "Jaccard, difference", "Verdict"),
    )
    first, second = table.rows
    assert first[:3] == (Cell("QKV", "softmax"), Cell("1.06 M"), Cell("0.21 G"))
    assert first[-2:] == (Cell("–"), Cell("reference"))
    assert second[1] == Cell("0.97 M", "−8.5 %")
    assert second[5] == Cell("0.830", "0.810 to 0.850")
    assert second[8] == Cell("7.00", "5.00 to 8.00")
    assert second[-2:] == (Cell("−0.004", "−0.013 to 0.004"), Cell("non-inferior"))
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_what_was_not_measured_has_no_column_or_a_dash(comparison: Comparison) -> None:
    bare = tuple(replace(row, step_ms=None, peak_mib=None, differences=None) for row in comparison.rows)
    table = summary_table(replace(comparison, rows=bare))
    assert table.columns[3] == "Jaccard"
    assert table.columns[-1] == "HD95 (mm)"
    partly = replace(comparison, rows=(*comparison.rows, replace(comparison.rows[1], step_ms=None, differences=None)))
    cells = dict(zip(summary_table(partly).columns, summary_table(partly).rows[2], strict=True))
    assert cells["Step (ms)"] == Cell("–")
    assert cells["Verdict"] == Cell("not computed")


def test_tone_follows_the_interval(comparison: Comparison, row_maker: Callable[..., Row]) -> None:
    better, worse = carried(0.02, 0.01, 0.03, 0.02), carried(-0.02, -0.03, -0.01, 0.02)
    rows = (comparison.rows[0], row_maker("A", "kv", 1, difference=better), row_maker("B", "kv", 2, difference=worse))
    table = summary_table(replace(comparison, rows=rows))
    assert [row[-1].tone for row in table.rows] == ["", "better", "worse"]


def test_further_scores_classes_and_seeds(comparison: Comparison) -> None:
    further = further_table(comparison)
    assert further is not None
    assert further.columns == ("Recipe", "Jaccard with background")
    jaccard, dice, distance = class_tables(comparison)
    assert jaccard.columns == dice.columns == ("Recipe", "large_bowel", "stomach")
    assert distance.columns == ("Recipe", "stomach")
    assert distance.rows[0][1] == Cell("–")
    seeds = seeds_table(comparison)
    assert seeds is not None
    assert seeds.columns == ("Recipe", "Seed 0", "Seed 1", "Spread")
    assert seeds.rows[1][1:] == (Cell("0.830"), Cell("0.831"), Cell("0.001", "0.830 to 0.831"))


def test_a_run_has_a_row_a_class(comparison: Comparison) -> None:
    table = run_classes_table(comparison)
    assert table is not None
    assert table.columns == ("Class", "Jaccard", "Dice", "HD95 (mm)")
    assert table.rows[0] == (Cell("large_bowel"), Cell("0.840"), Cell("0.840"), Cell("–"))
    bare = replace(comparison.rows[0], scores={"jaccard": comparison.rows[0].scores["jaccard"]})
    assert run_classes_table(replace(comparison, rows=(bare,))) is None


def test_a_seed_that_is_missing_is_a_dash(comparison: Comparison) -> None:
    short = replace(comparison.rows[1], per_seed={"jaccard": (None,)})
    table = seeds_table(replace(comparison, rows=(comparison.rows[0], short)))
    assert table is not None
    assert table.rows[1][1:] == (Cell("–"), Cell("–"), Cell("–"))
    assert seeds_table(replace(comparison, rows=(short,))) is None


def test_every_difference_is_listed(comparison: Comparison) -> None:
    more = {"jaccard": carried(-0.1, -0.2, -0.05, 0.02), "hd95_mm": carried(-1.0, -2.0, -0.5, 1.0)}
    table = differences_table(
        replace(comparison, rows=(comparison.rows[0], replace(comparison.rows[1], differences=more)))
    )
    assert table is not None
    assert [(row[1].text, row[2].text, row[3].tone) for row in table.rows] == [
        ("Jaccard", "−0.100", "worse"),
        ("HD95 (mm)", "−1.00", "better"),
    ]
    assert differences_table(replace(comparison, rows=comparison.rows[:1])) is None
