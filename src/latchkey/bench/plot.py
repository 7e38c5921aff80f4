"""Time and peak memory against n, both axes logarithmic, with the size from which on a kernel is the faster one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latchkey.bench.operators import BASELINES
from latchkey.bench.statistics import crossover

Record = dict[str, Any]
COLOURS = {"sdpa": "#767676", "flash": "#767676", "published": "#d55e00", "copy": "#767676", "copy_new": "#b0b0b0"}
KERNEL_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#9c6b00")
TITLES = {"knn": "k-NN", "kv": "KV", "key_only": "key-only", "softmax": "softmax"}
PASSES = {"forward": "forward", "training": "forward and backward"}
LEAST = 2**20
"""Bytes below which a growth of the resident set says nothing."""

Series = dict[str, dict[int, float]]


def panels(measured: list[Record]) -> dict[str, tuple[Series, Series]]:
    """By title: seconds an image and head, and peak bytes an image and head, by contender and n.

    An operator and pass have a panel each, k-NN attention one for each share of keys that are kept, about; none has one
    that was measured at one n alone.
    """
    found: dict[str, tuple[Series, Series]] = {}
    for record in measured:
        if record["op"] == "model":
            continue
        shape = record["shape"]
        n, share = shape["n"], shape["b"] * shape["h"]
        kept = f", k = n/{round(n / shape['k'])}" if "k" in shape else ""
        times, peaks = found.setdefault(f"{TITLES[record['op']]}{kept}, {PASSES[record['pass']]}", ({}, {}))
        if "seconds" in record:
            times.setdefault(record["contender"], {})[n] = record["seconds"]["median"] / share
        if record.get("peak_bytes") is not None:
            peaks.setdefault(record["contender"], {})[n] = max(record["peak_bytes"], LEAST) / share
    return {key: both for key, both in found.items() if max((len(s) for s in both[0].values()), default=0) > 1}


def draw(measured: list[Record], *files: Path) -> bool:
    """The figure to each of `files`, whose suffixes say the format; False where there is nothing to draw."""
    from matplotlib.figure import Figure

    from latchkey.report.svg import drawing

    found = panels(measured)
    if not found:
        return False
    with drawing():
        figure = Figure(figsize=(9.6, 3.1 * len(found)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(found), 2, squeeze=False)
        for axes, (title, (times, peaks)) in zip(grid, found.items(), strict=True):
            _lines(axes[0], times, 1e3)
            _lines(axes[1], peaks, 2**-20)
            axes[0].set_title(f"{title}: milliseconds an image and head")
            axes[1].set_title(f"{title}: peak memory, MiB an image and head")
            _mark(axes[0], times)
            axes[0].legend(frameon=False, fontsize=8)
        for file in files:
            figure.savefig(file, dpi=150)
    return True


def _lines(axis: Any, series: Series, factor: float) -> None:
    for name, points in series.items():
        known = sorted(points.items())
        axis.loglog(
            [n for n, _ in known],
            [factor * value for _, value in known],
            marker="o",
            markersize=4,
            color=_colour(name, list(series)),
            linestyle="--" if name in BASELINES else "-",
            label=name,
        )
    axis.set_xlabel("n")
    axis.grid(alpha=0.4)


def _colour(name: str, names: list[str]) -> str:
    if name in COLOURS:
        return COLOURS[name]
    own = [each for each in names if each not in COLOURS]
    return KERNEL_COLOURS[own.index(name) % len(KERNEL_COLOURS)]


def _mark(axis: Any, times: Series) -> None:
    """Where the medians of each kernel and of the baseline cross."""
    base = next((name for name in BASELINES if name in times), None)
    said = []
    for name in [each for each in times if each not in BASELINES]:
        if base is None:
            continue
        where, common = crossover(times[name], times[base]), sorted(set(times[name]) & set(times[base]))
        if where is None:
            said.append(f"{name} above {base} at n = {common[-1]:,}" if common else "")
        elif where == common[0]:
            said.append(f"{name} below {base} from n = {common[0]:,} on")
        else:
            said.append(f"{name} crosses {base} at n = {where:,.0f}")
            axis.axvline(where, color=_colour(name, list(times)), linewidth=0.9, linestyle=":")
    axis.text(0.98, 0.04, "\n".join(filter(None, said)), transform=axis.transAxes, ha="right", fontsize=8)
