"""Curves of training runs: the logged loss and the monitored score, by step or epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison, Points
from fewpairs.report.svg import PALETTE, STEPS, WIDTH, drawing, short, styles

What = Literal["loss", "score"]

_BINS = 100
"""The number of points to which a long log is averaged."""


def curves_figure(comparison: Comparison, what: What) -> Figure | None:
    """One panel for each recipe: thin lines are seeds, thick their mean, grey other recipes; None without any."""
    rows = comparison.rows
    lines, unit = _lines(comparison, what)
    if not any(lines):
        return None
    means = [_mean(row) for row in lines]
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    with drawing():
        figure = Figure(figsize=(WIDTH if columns > 1 else 0.62 * WIDTH, 2.1 * height + 0.3), layout="constrained")
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
            axes.set_title(short(rows[index].label))
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=PALETTE["muted"])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEPS))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
            below = index + columns >= len(rows)
            axes.tick_params(axis="x", labelbottom=below)
            if below:
                axes.set_xlabel(unit)
        _limit(grid.flat[0], lines, what)
        grid.flat[0].set_xlim(left=0)
        figure.supylabel(_axis(comparison, what), fontsize=8.5, color=PALETTE["muted"])
        return figure


def run_figure(run: Comparison) -> Figure | None:
    """Loss and monitored score of the first row side by side; None without both."""
    row = run.rows[0]
    named: tuple[What, ...] = ("loss", "score")
    found = [(what, *_lines(run, what)) for what in named]
    panels = [(what, rows[0], unit) for what, rows, unit in found if rows[0]]
    if not panels:
        return None
    colour = styles([row.attention])[row.attention].colour
    with drawing():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        grid = figure.subplots(1, 2, squeeze=False)[0]
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (what, lines, unit) in zip(grid, panels, strict=False):
            for line in lines:
                axes.plot(*line.T, color=colour, linewidth=1.6, marker="o" if len(line) == 1 else "")
            axes.set_title(_axis(run, what))
            axes.set_xlabel(unit)
            axes.set_xlim(left=0)
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=PALETTE["muted"])
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=STEPS))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
            _limit(axes, [lines], what)
        return figure


def _lines(comparison: Comparison, what: What) -> tuple[list[list[np.ndarray]], str]:
    """The curves of every row that have points, `[points 2]` each, and the unit of their first column."""
    curves = [curve for row in comparison.rows for curve in row.curves if getattr(curve, what)]
    by_epoch = bool(curves) and all(curve.steps_per_epoch for curve in curves)
    scale = score_text.scale(comparison.monitor) if what == "score" else 1.0
    lines: list[list[np.ndarray]] = []
    for row in comparison.rows:
        lines.append([])
        for curve in row.curves:
            line = _points(getattr(curve, what), binned=what == "loss")
            per_unit = curve.steps_per_epoch if by_epoch and curve.steps_per_epoch else 1.0
            if len(line):
                lines[-1].append(line * (1 / per_unit, scale))
    return lines, "epoch" if by_epoch else "step"


def _axis(comparison: Comparison, what: str) -> str:
    return "training loss" if what == "loss" else f"validation {score_text.title(comparison.monitor)}"


def _points(points: Points, *, binned: bool) -> np.ndarray:
    """The finite points `[points 2]`, averaged over equal ranges of steps when there are very many."""
    array = np.array([pair for pair in points if all(map(math.isfinite, pair))], dtype=float).reshape(-1, 2)
    if not binned or len(array) <= 2 * _BINS:
        return array
    return np.array([part.mean(axis=0) for part in np.array_split(array, _BINS)])


def _mean(lines: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over the seeds, at those of the first seed's steps that every seed reached."""
    if not lines:
        return np.empty((0, 2))
    if len(lines) == 1:
        return lines[0]
    start, stop = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
    steps = lines[0][(lines[0][:, 0] >= start) & (lines[0][:, 0] <= stop), 0]
    values = [np.interp(steps, line[:, 0], line[:, 1]) for line in lines]
    return np.stack([steps, np.mean(values, axis=0)], axis=1) if len(steps) else np.empty((0, 2))


def _limit(axes: Axes, lines: Sequence[Sequence[np.ndarray]], what: str) -> None:
    """Ends a loss axis above the 98th percentile, because the first losses would flatten the rest."""
    values = np.concatenate([line[:, 1] for row in lines for line in row])
    if what == "loss" and len(values) > 20:
        low, high = values.min(), np.percentile(values, 98)
        if high > low:
            axes.set_ylim(low - 0.05 * (high - low), high + 0.12 * (high - low))
