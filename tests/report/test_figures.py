"""The figures show the numbers of the comparison, and survive what is missing or not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fewpairs.report import Comparison, Curve, Difference, Estimate, Row
from fewpairs.report.curves import _mean, _points, curves_figure, run_figure
from fewpairs.report.figures import cost_figure, difference_figure, score_figure
from fewpairs.report.svg import svg

carried = partial(Difference, over="cases and seeds", units=40, seeds=6)
"""A difference from trainings and cases enough for a verdict about the method."""


def test_dots_lie_at_the_scores(comparison: Comparison) -> None:
    figure = score_figure(comparison)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "Jaccard",
        "Weighted Jaccard",
        "Dice",
        "HD95 (mm), lower is better",
    ]
    markers = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "")]
    assert [line.get_xdata()[0] for line in markers] == pytest.approx([0.84, 0.83])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["QKV", "KV"]
    assert ">QKV</text>" in svg(figure, "scores", "t")


def test_the_interval_of_a_difference_is_drawn_and_named(comparison: Comparison) -> None:
    figure = difference_figure(comparison)
    assert figure is not None
    (axes,) = figure.axes
    spans = [list(line.get_xdata()) for line in axes.lines]
    assert [-0.013, 0.004] in spans
    assert "non-inferior" in [text.get_text() for text in axes.texts]
    assert difference_figure(replace(comparison, rows=comparison.rows[:1])) is None


def test_a_distance_is_worse_to_the_right(comparison: Comparison) -> None:
    second = replace(comparison.rows[1], differences={"hd95_mm": carried(1.0, 0.5, 1.5, 2.0)})
    figure = difference_figure(replace(comparison, headline="hd95_mm", rows=(comparison.rows[0], second)))
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts][-2:] == ["← better", "worse →"]


def test_curves_have_a_panel_a_recipe(comparison: Comparison) -> None:
    for what in ("loss", "score"):
        figure = curves_figure(comparison, what)
        assert figure is not None
        assert [axes.get_title("left") for axes in figure.axes] == ["QKV", "KV"]
    bare = tuple(replace(row, curves=()) for row in comparison.rows)
    assert curves_figure(replace(comparison, rows=bare), "loss") is None
    assert run_figure(replace(comparison, rows=bare[:1])) is None


def test_long_logs_are_averaged_and_gaps_left_out() -> None:
    points = tuple((float(step), math.nan if step == 7 else 2.0) for step in range(1000))
    assert _points(points, binned=True).shape == (100, 2)
    assert np.isfinite(_points(points, binned=True)).all()
    assert len(_points(points, binned=False)) == 999
    assert _points((), binned=True).shape == (0, 2)


def test_the_mean_goes_as_far_as_every_seed() -> None:
    long, short = np.array([[0, 1.0], [10, 3.0], [20, 5.0]]), np.array([[0, 3.0], [10, 5.0]])
    assert _mean([long, short]).tolist() == [[0, 2.0], [10, 4.0]]
    assert _mean([long + np.array([100, 0]), short]).shape == (0, 2)


def test_cost_bars_and_what_was_not_measured(comparison: Comparison) -> None:
    figure = cost_figure(comparison)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "Parameters (M)",
        "MACs (G)",
        "Time per step (ms)",
        "Peak memory (MiB)",
    ]
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([1.06, 0.97])
    half = replace(comparison, rows=(comparison.rows[0], replace(comparison.rows[1], peak_mib=None)))
    assert "not measured" in [text.get_text() for text in cost_figure(half).axes[3].texts]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_values_that_are_missing_or_not_finite(
    value: float | None, comparison: Comparison, row_maker: Callable[..., Row]
) -> None:
    gap = Estimate(value, value, value)
    number = math.nan if value is None else value
    row = replace(
        row_maker("odd", "kv", 0),
        scores={"jaccard": gap, "dice": gap, "hd95_mm": gap},
        per_seed={"jaccard": (value, value)},
        differences={"jaccard": carried(value, value, value, 0.02)},
        curves=(Curve(0, ((0.0, number), (1.0, number)), ((0.0, number),)),),
    )
    odd = replace(comparison, rows=(row, row))
    figures = [score_figure(odd), difference_figure(odd), curves_figure(odd, "loss"), cost_figure(odd), run_figure(odd)]
    for figure in figures:
        assert figure is None or svg(figure, "odd", "t")
