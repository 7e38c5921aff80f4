"""The page and the figure of `key_only_scaling.py`, from its rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fewpairs.numbers import duration, size

NAMES = {
    "keyonly": "key-only",
    "softmax": "softmax, fused",
    "kv": "KV",
    "knn": "k-NN, 98 keys",
    "reduced": "softmax, keys reduced as PVTv2",
}
COLOURS = {"keyonly": "#0072b2", "softmax": "#767676", "kv": "#009e73", "knn": "#cc79a7", "reduced": "#d55e00"}
PASSES = {"forward": "forward", "training": "forward and backward"}

PAGE = """# One attention layer from 196 to 1,048,576 positions

Written by `python benchmarks/key_only_scaling.py`, commit {commit}, {date}: {processor}, {cores} cores, PyTorch {torch}
with {threads} threads, float32, one image. A layer is projections, mixing of heads and output projection. PVTv2's
reduction makes keys 8 times coarser in each direction at 64 channels and 4 times at 128, as its first two stages do.

Key-only attention is a reconstruction ([linglo.md](../linglo.md)). Before anything was timed it agreed with its
reference, output and gradients, to 1e-10 in float64.

## How time grows

The exponent of a power law fitted to the medians by least squares on both logarithms, and where the other layers begin
to take longer than key-only attention (between which two sizes, interpolated).

{summary}

## Time

Layers take turns in one process; medians. In brackets: how many times as long as key-only attention, and the lowest and
highest such ratio of any round. A dash: the layer was left out because one pass would have taken seconds.

{time}

## Peak memory

The largest resident set of a fresh process, less what it held before the pass (tokens, weights, libraries).

{memory}

![Time and peak memory against the number of positions, both axes logarithmic]({figure})
"""


def write_page(rows: list[dict[str, Any]], page: Path) -> None:
    """Markdown to `page`, and the figure beside it."""
    about, figure = rows[0]["environment"], page.with_suffix(".svg")
    text = PAGE.format(
        commit=rows[0]["commit"],
        date=rows[0]["date"],
        processor=about["processor"],
        cores=about["cores"],
        torch=about["packages"]["torch"],
        threads=about["torch_threads"],
        summary=summary(rows),
        time=table(rows, "time"),
        memory=table(rows, "memory"),
        figure=figure.name,
    )
    page.write_text(text, encoding="utf-8")
    draw(rows, figure)


def widths(rows: list[dict[str, Any]]) -> list[dict[str, int]]:
    """The layers' widths, in order."""
    return [dict(each) for each in dict.fromkeys(tuple(row["width"].items()) for row in rows)]


def chosen(rows: list[dict[str, Any]], kind: str, width: dict[str, int], pass_: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["kind"], row["width"], row["pass"]) == (kind, width, pass_)]


def series(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """(positions, median seconds) as far as the layer was timed."""
    return [(row["n"], row["seconds"][name]["median"]) for row in rows if name in row["seconds"]]


def exponent(points: list[tuple[int, float]]) -> float:
    """Slope of the logarithms."""
    x, y = [math.log(n) for n, _ in points], [math.log(t) for _, t in points]
    x0, y0 = sum(x) / len(x), sum(y) / len(y)
    return sum((a - x0) * (b - y0) for a, b in zip(x, y, strict=True)) / sum((a - x0) ** 2 for a in x)


def crossover(mine: list[tuple[int, float]], other: list[tuple[int, float]]) -> str:
    """From where on the other takes longer, in words."""
    gaps = [(n, math.log(t / dict(mine)[n])) for n, t in other]
    after = next((i for i in range(len(gaps)) if all(gap > 0 for _, gap in gaps[i:])), None)
    if after is None:
        return f"never up to {gaps[-1][0]:,}"
    if after == 0:
        return f"at {gaps[0][0]:,} already"
    (n0, g0), (n1, g1) = gaps[after - 1], gaps[after]
    middle = math.exp(math.log(n0) + (math.log(n1) - math.log(n0)) * (0 - g0) / (g1 - g0))
    return f"about {middle:,.0f} (between {n0:,} and {n1:,})"


def summary(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| channels, heads | pass | layer | sizes | exponent, all sizes | exponent, from 3,136 | slower from |",
        "| --- | --- | --- | --- | --: | --: | --- |",
    ]
    for width in widths(rows):
        for pass_, title in PASSES.items():
            of = chosen(rows, "time", width, pass_)
            for name, label in NAMES.items():
                points = series(of, name)
                large = [point for point in points if point[0] >= 3136]
                late = f"{exponent(large):.2f}" if len(large) > 2 else "–"
                where = "–" if name == "keyonly" else crossover(series(of, "keyonly"), points)
                lines.append(
                    f"| {width['channels']}, {width['heads']} | {title} | {label} | {points[0][0]:,} to "
                    f"{points[-1][0]:,} | {exponent(points):.2f} | {late} | {where} |"
                )
    return "\n".join(lines)


def table(rows: list[dict[str, Any]], kind: str) -> str:
    """One line a size, width and pass."""
    lines = [
        "| channels, heads | positions | pass | " + " | ".join(NAMES.values()) + " |",
        "| --- | --: | --- |" + " --: |" * len(NAMES),
    ]
    for row in rows:
        if row["kind"] == kind:
            cells = [time_cell(row, name) if kind == "time" else memory_cell(row, name) for name in NAMES]
            width = row["width"]
            start = f"| {width['channels']}, {width['heads']} | {row['n']:,} | {PASSES[row['pass']]} | "
            lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines)


def time_cell(row: dict[str, Any], name: str) -> str:
    if name not in row["seconds"]:
        return "–"
    text, by = duration(row["seconds"][name]["median"]), row["ratio_to_keyonly"].get(name)
    return f"{text} ({by['of_medians']:.2f}; {by['lowest']:.2f} to {by['highest']:.2f})" if by else text


def memory_cell(row: dict[str, Any], name: str) -> str:
    peak = row["peak_bytes"].get(name)
    return size(peak["added"]) if peak else "–"


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Forward and backward against the number of positions, a row of plots for each width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 7.0), layout="constrained")
    found = widths(rows)
    grid = figure.subplots(len(found), 2, squeeze=False)
    for axes, width in zip(grid, found, strict=True):
        times, peaks = (chosen(rows, kind, width, "training") for kind in ("time", "memory"))
        for name, label in NAMES.items():
            axes[0].loglog(*zip(*series(times, name), strict=True), marker="o", color=COLOURS[name], label=label)
            known = [(row["n"], row["peak_bytes"][name]["added"]) for row in peaks if row["peak_bytes"].get(name)]
            axes[1].loglog(
                [n for n, _ in known], [max(b, 2**20) / 2**20 for _, b in known], marker="o", color=COLOURS[name]
            )
        about = f"{width['channels']} channels, {width['heads']} heads: forward and backward"
        for axis, what in zip(axes, ("seconds", "peak memory, MiB"), strict=True):
            axis.set_title(f"{about}, {what}", loc="left", fontsize=9)
            axis.set_xlabel("positions")
            axis.grid(alpha=0.3)
    grid[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(file)
