"""The figures of a report: scores with intervals, paired differences, cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TypeGuard

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewpairs import numbers
from fewpairs.report import score_text
from fewpairs.report.comparison import Comparison, Row
from fewpairs.report.estimate import Difference, Estimate
from fewpairs.report.svg import PALETTE, STEPS, WIDTH, Style, drawing, short, styles

_ROW = 0.36


def score_figure(comparison: Comparison) -> Figure:
    """A dot with its interval for every recipe and score; small rings show single seeds."""
    rows = comparison.rows
    main = comparison.words.main
    shown = [name for name in main if any(name in row.scores for row in rows)] or [comparison.headline]
    with drawing():
        figure, panels = _panels(len(shown), _ROW * len(rows) + 0.9, rows)
        for axes, name in zip(panels, shown, strict=True):
            score, scale = score_text.describe(name), score_text.scale(name)
            first = rows[0].scores.get(name)
            if len(rows) > 1 and first is not None and _finite(first.value):
                axes.axvline(scale * first.value, color=PALETTE["faint"], linewidth=1, linestyle=(0, (2, 3)), zorder=1)
            for place, row, style in _places(rows):
                seeds = [scale * value for value in row.per_seed.get(name, ()) if _finite(value)]
                if len(seeds) > 1:
                    offset = [place + 0.24] * len(seeds)
                    axes.scatter(seeds, offset, s=10, facecolors="none", edgecolors=style.colour, linewidths=0.8)
                value = row.scores.get(name)
                if value is not None and _finite(value.value):
                    _dot(axes, place, value, style, scale)
            axes.set_title(score_text.title(name) + ("" if score.higher_is_better else ", lower is better"))
            axes.margins(x=0.08)
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
            axes.grid(axis="x")
        return figure


def difference_figure(comparison: Comparison) -> Figure | None:
    """Paired differences of the headline score, with zero and the margin marked; None without differences."""
    name = comparison.headline
    rows = [row for row in comparison.rows if name in (row.differences or {})]
    drawn = [(row, (row.differences or {})[name]) for row in rows]
    drawn = [(row, item) for row, item in drawn if all(map(_finite, (item.value, item.low, item.high)))]
    if not drawn:
        return None
    score, scale = score_text.describe(name), score_text.scale(name)
    margin = scale * drawn[0][1].margin
    worse = -margin if score.higher_is_better else margin
    with drawing():
        figure, (axes,) = _panels(1, _ROW * len(drawn) + 1.1, [row for row, _ in drawn])
        axes.axvspan(min(worse, 0), max(worse, 0), color=PALETTE["band"], linewidth=0, zorder=0)
        axes.axvline(0, color=PALETTE["muted"], linewidth=1, zorder=1)
        places = _places([row for row, _ in drawn], comparison.rows)
        for (place, _, style), (_, item) in zip(places, drawn, strict=True):
            if _finite(item.runs_low) and _finite(item.runs_high):
                ends = [scale * item.runs_low, scale * item.runs_high]
                axes.plot(ends, [place, place], color=style.colour, linewidth=6, alpha=0.35, zorder=2)
            _dot(axes, place, item, style, scale)
            beside = axes.annotate(score_text.verdict(name, item), (1.02, place), xycoords=("axes fraction", "data"))
            beside.set(va="center", fontsize=8.5)
        ends = [scale * abs(end or 0) for _, item in drawn for end in (item.low, item.high)]
        reach = 1.15 * max(margin, *ends) or 1.0
        axes.set_xlim(-reach, reach)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=STEPS))
        axes.grid(axis="x")
        unit = f" {score_text.difference_unit(name)}".rstrip()
        axes.set_title(f"{score.title}, difference to {short(comparison.reference.label)}{f',{unit}' if unit else ''}")
        axes.set_xlabel(f"shaded: a loss within the margin of {margin:g}{unit}")
        left, right = ("← worse", "better →") if score.higher_is_better else ("← better", "worse →")
        for place, side, text in ((0, "left", left), (1, "right", right)):
            label = axes.annotate(text, (place, 0), (0, -28), "axes fraction", "offset points", ha=side, fontsize=8.5)
            label.set_color(PALETTE["muted"])
        return figure


def units_figure(comparison: Comparison) -> Figure | None:
    """A dot for every case or image: its score less that of the first row; None where single ones are not stored."""
    name, first = comparison.headline, comparison.reference.units
    rows = [row for row in comparison.rows[1:] if first.keys() & row.units.keys()]
    drawn = [(row, sorted(row.units[unit] - first[unit] for unit in first if unit in row.units)) for row in rows]
    if not drawn:
        return None
    scale = score_text.scale(name)
    with drawing():
        figure, (axes,) = _panels(1, 0.6 * len(drawn) + 0.9, rows)
        axes.axvline(0, color=PALETTE["muted"], linewidth=1, zorder=1)
        for (place, _, style), (_, gains) in zip(_places(rows, comparison.rows), drawn, strict=True):
            offsets = [place + 0.3 * ((0.618034 * index) % 1 - 0.5) * 2 for index in range(len(gains))]
            axes.scatter([scale * gain for gain in gains], offsets, s=14, color=style.colour, alpha=0.6, linewidths=0)
            axes.plot([scale * median(gains)] * 2, [place - 0.4, place + 0.4], color=PALETTE["ink"], linewidth=1.5)
            up, down = (sum(sign * gain > 0 for gain in gains) for sign in (1, -1))
            axes.annotate(
                f"{up} up, {down} down", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5
            )
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=STEPS))
        axes.grid(axis="x")
        unit = f", {score_text.difference_unit(name)}".rstrip(", ")
        axes.set_title(
            f"{score_text.describe(name).title} of each {comparison.words.unit}, difference to "
            f"{short(comparison.reference.label)}{unit}"
        )
        return figure


def cost_figure(comparison: Comparison) -> Figure:
    """Bars of parameters, multiply-adds and measured time and memory, with the change against the first row."""
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
                change = f"  {numbers.percent(value, first)}" if first and row is not rows[0] else ""
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
    """Panels side by side with one line for each row, the first row on top."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False).flat)
    panels[0].set_yticks(range(len(rows)), [short(row.label) for row in rows])
    panels[0].set_ylim(len(rows) - 0.45, -0.55)
    for axes in panels:
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure, panels


def _places(rows: Sequence[Row], everything: Sequence[Row] = ()) -> list[tuple[int, Row, Style]]:
    """Rows with their index and style; `everything` holds all rows of the comparison when `rows` are a part of them."""
    style = styles([row.attention for row in everything or rows])
    return [(place, row, style[row.attention]) for place, row in enumerate(rows)]


def _dot(axes: Axes, place: float, estimate: Estimate | Difference, style: Style, scale: float) -> None:
    if not _finite(estimate.value):
        return
    if _finite(estimate.low) and _finite(estimate.high):
        ends = [scale * estimate.low, scale * estimate.high]
        axes.plot(ends, [place, place], color=style.colour, linewidth=2, zorder=3)
    edge = PALETTE["paper"]
    axes.plot(
        [scale * estimate.value],
        [place],
        style.marker,
        markersize=6,
        color=style.colour,
        markeredgecolor=edge,
        zorder=4,
    )


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
