"""The figures of a report: scores with intervals, paired differences, training curves, cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latchkey.report import wording
from latchkey.report.comparison import Comparison, Difference, Estimate, Points, Row
from latchkey.report.svg import PALETTE, Style, drawing, styles

_WIDTH = 9.6
_ROW = 0.36
_BINS = 100
_STEPS = [1, 2, 2.5, 5, 10]


def score_figure(comparison: Comparison) -> Figure:
    """A dot with its interval for every recipe and score; small rings are single seeds."""
    rows = comparison.rows
    shown = [name for name in wording.MAIN if any(name in row.scores for row in rows)] or [comparison.headline]
    with drawing():
        figure, panels = _panels(len(shown), _ROW * len(rows) + 0.9, rows)
        for axes, name in zip(panels, shown, strict=True):
            score = wording.describe(name)
            first = rows[0].scores.get(name)
            if len(rows) > 1 and first is not None and _finite(first.value):
                axes.axvline(first.value, color=PALETTE["faint"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)
            for place, row, style in _places(rows):
                seeds = [value for value in row.per_seed.get(name, ()) if _finite(value)]
                if len(seeds) > 1:
                    offset = [place + 0.24] * len(seeds)
                    axes.scatter(seeds, offset, s=10, facecolors="none", edgecolors=style.colour, linewidths=0.8)
                value = row.scores.get(name)
                if value is not None and _finite(value.value):
                    _dot(axes, place, value, style)
            axes.set_title(wording.title(name) + ("" if score.higher_is_better else ", lower is better"))
            axes.margins(x=0.08)
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
            axes.grid(axis="x")
        return figure


def difference_figure(comparison: Comparison) -> Figure | None:
    """Paired differences of the headline score with zero and the margin marked; None when there are none."""
    name = comparison.headline
    rows = [row for row in comparison.rows if name in (row.differences or {})]
    drawn = [(row, (row.differences or {})[name]) for row in rows]
    drawn = [(row, item) for row, item in drawn if all(map(_finite, (item.value, item.low, item.high)))]
    if not drawn:
        return None
    score = wording.describe(name)
    margin = drawn[0][1].margin
    worse = -margin if score.higher_is_better else margin
    with drawing():
        figure, (axes,) = _panels(1, _ROW * len(drawn) + 1.1, [row for row, _ in drawn])
        axes.axvspan(min(worse, 0), max(worse, 0), color=PALETTE["band"], linewidth=0, zorder=0)
        axes.axvline(0, color=PALETTE["muted"], linewidth=1, zorder=1)
        places = _places([row for row, _ in drawn], comparison.rows)
        for (place, _, style), (_, item) in zip(places, drawn, strict=True):
            _dot(axes, place, item, style)
            beside = axes.annotate(wording.verdict(name, item), (1.02, place), xycoords=("axes fraction", "data"))
            beside.set(va="center", fontsize=8.5)
        reach = 1.15 * max(margin, *(abs(end or 0) for _, item in drawn for end in (item.low, item.high))) or 1.0
        axes.set_xlim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=_STEPS))
        axes.grid(axis="x")
        unit = f", {score.unit}" if score.unit else ""
        axes.set_title(f"{score.title}, difference to {_short(comparison.reference.label)}{unit}")
        axes.set_xlabel(f"shaded: a loss within the margin of {margin:g}{unit}")
        left, right = ("← worse", "better →") if score.higher_is_better else ("← better", "worse →")
        for place, side, text in ((0, "left", left), (1, "right", right)):
            label = axes.annotate(text, (place, 0), (0, -28), "axes fraction", "offset points", ha=side, fontsize=8.5)
            label.set_color(PALETTE["muted"])
        return figure


def curves_figure(comparison: Comparison, what: Literal["loss", "score"]) -> Figure | None:
    """One panel a recipe: thin lines are seeds, thick is their mean, grey the other recipes; None without curves."""
    rows = comparison.rows
    lines = [[_points(getattr(curve, what), binned=what == "loss") for curve in row.curves] for row in rows]
    lines = [[line for line in row if len(line)] for row in lines]
    if not any(lines):
        return None
    means = [_mean(row) for row in lines]
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    with drawing():
        figure = Figure(figsize=(_WIDTH if columns > 1 else 0.62 * _WIDTH, 2.1 * height + 0.3), layout="constrained")
        grid = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index >= len(rows):
                axes.set_visible(False)
                continue
            for other in (mean for number, mean in enumerate(means) if number != index and len(mean)):
                axes.plot(*other.T, color=PALETTE["faint"], linewidth=0.9, zorder=1)
            style = styles([row.attention for row in rows])[rows[index].attention]
            for line in lines[index] if len(lines[index]) > 1 else ():
                axes.plot(*line.T, color=style.colour, linewidth=0.8, alpha=0.45, zorder=2)
            if len(means[index]):
                single = len(means[index]) == 1
                axes.plot(*means[index].T, color=style.colour, linewidth=1.8, marker="o" if single else "", zorder=3)
            axes.set_title(_short(rows[index].label))
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=PALETTE["muted"])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=_STEPS))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
            below = index + columns >= len(rows)
            axes.tick_params(axis="x", labelbottom=below)
            if below:
                axes.set_xlabel("step")
        _limit(grid.flat[0], lines, what)
        grid.flat[0].set_xlim(left=0)
        figure.supylabel(
            "training loss" if what == "loss" else f"validation {wording.describe(comparison.monitor).title}",
            fontsize=8.5,
            color=PALETTE["muted"],
        )
        return figure


def run_figure(run: Comparison) -> Figure | None:
    """Loss and monitored score of the first row side by side; None when there are neither."""
    row = run.rows[0]
    named = (("loss", "training loss"), ("score", f"validation {wording.describe(run.monitor).title}"))
    panels = []
    for what, label in named:
        lines = [_points(getattr(curve, what), binned=what == "loss") for curve in row.curves]
        if any(len(line) for line in lines):
            panels.append((what, label, [line for line in lines if len(line)]))
    if not panels:
        return None
    colour = styles([row.attention])[row.attention].colour
    with drawing():
        figure = Figure(figsize=(_WIDTH, 2.7), layout="constrained")
        grid = figure.subplots(1, 2, squeeze=False)[0]
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (what, label, lines) in zip(grid, panels, strict=False):
            for line in lines:
                axes.plot(*line.T, color=colour, linewidth=1.6, marker="o" if len(line) == 1 else "")
            axes.set_title(label)
            axes.set_xlabel("step")
            axes.set_xlim(left=0)
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=PALETTE["muted"])
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_STEPS))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
            _limit(axes, [lines], what)
        return figure


def cost_figure(comparison: Comparison) -> Figure:
    """Bars of parameters, multiply-adds and, where measured, time and memory, with the change against the first row."""
    rows = comparison.rows
    panels: list[tuple[str, list[float | None], float, str]] = [
        ("Parameters (M)", [row.parameters for row in rows], 1e6, ".2f"),
        ("MACs (G)", [row.macs for row in rows], 1e9, ".2f"),
    ]
    if any(row.step_ms for row in rows):
        panels.append(("Time per step (ms)", [row.step_ms.median if row.step_ms else None for row in rows], 1, ".0f"))
    if any(row.peak_mib is not None for row in rows):
        panels.append(("Peak memory (MiB)", [row.peak_mib for row in rows], 1, ",.0f"))
    with drawing():
        figure, drawn = _panels(len(panels), _ROW * len(rows) + 0.6, rows)
        for axes, (title, values, scale, form) in zip(drawn, panels, strict=True):
            form = ".3f" if form == ".2f" and max(value or 0 for value in values) / scale < 1 else form
            for (place, row, style), value in zip(_places(rows), values, strict=True):
                if value is None:
                    axes.annotate("not measured", (0, place), va="center", fontsize=7.5, color=PALETTE["muted"])
                    continue
                axes.barh(place, value / scale, height=0.5, color=style.colour, linewidth=0)
                first = values[0]
                change = f"  {wording.percent(value, first)}" if first and row is not rows[0] else ""
                axes.annotate(
                    f"{value / scale:{form}}{change}",
                    (value / scale, place),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                )
            axes.set_title(title)
            axes.set_xlim(0, 1.85 * max([value or 0 for value in values] + [1e-9]) / scale)
            axes.set_xticks([])
            axes.spines[["bottom", "left"]].set_visible(False)
        return figure


def _panels(count: int, height: float, rows: Sequence[Row]) -> tuple[Figure, list[Axes]]:
    """Panels side by side that share one line a row, the first row on top."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False).flat)
    panels[0].set_yticks(range(len(rows)), [_short(row.label) for row in rows])
    panels[0].set_ylim(len(rows) - 0.45, -0.55)
    for axes in panels:
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure, panels


def _places(rows: Sequence[Row], everything: Sequence[Row] = ()) -> list[tuple[int, Row, Style]]:
    """Rows with their place and style; `everything` is all rows of the comparison when `rows` is a part of them."""
    style = styles([row.attention for row in everything or rows])
    return [(place, row, style[row.attention]) for place, row in enumerate(rows)]


def _dot(axes: Axes, place: float, estimate: Estimate | Difference, style: Style) -> None:
    if not _finite(estimate.value):
        return
    if _finite(estimate.low) and _finite(estimate.high):
        axes.plot([estimate.low, estimate.high], [place, place], color=style.colour, linewidth=2, zorder=3)
    edge = PALETTE["paper"]
    axes.plot([estimate.value], [place], style.marker, markersize=6, color=style.colour, markeredgecolor=edge, zorder=4)


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _short(label: str, width: int = 30) -> str:
    return label if len(label) <= width else f"{label[: width - 1]}…"


def _points(points: Points, *, binned: bool) -> np.ndarray:
    """`[points 2]` without what is not finite; averaged over equal ranges of steps when there are very many."""
    array = np.array([pair for pair in points if all(map(math.isfinite, pair))], dtype=float).reshape(-1, 2)
    if not binned or len(array) <= 2 * _BINS:
        return array
    return np.array([part.mean(axis=0) for part in np.array_split(array, _BINS)])


def _mean(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the seeds, at the first seed's steps as far as every seed got."""
    if not lines:
        return np.empty((0, 2))
    if len(lines) == 1:
        return lines[0]
    start, stop = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    steps = lines[0][(lines[0][:, 0] >= start) & (lines[0][:, 0] <= stop), 0]
    values = [np.interp(steps, line[:, 0], line[:, 1]) for line in lines]
    return np.stack([steps, np.mean(values, axis=0)], axis=1) if len(steps) else np.empty((0, 2))


def _limit(axes: Axes, lines: Sequence[Sequence[np.ndarray]], what: str) -> None:
    """Losses start high and would flatten the rest: the axis ends above their 98th percentile."""
    values = np.concatenate([line[:, 1] for row in lines for line in row])
    if what == "loss" and len(values) > 20:
        low, high = values.min(), np.percentile(values, 98)
        if high > low:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.12 * (high - low))
