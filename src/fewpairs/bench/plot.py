"""Log-log figure of time and peak memory against n, with the n at which a kernel becomes faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewpairs.bench.operators import BASELINES
from fewpairs.bench.statistics import crossover

Record = dict[str, Any]
COLOURS = {"sdpa": "#767676", "flash": "#767676", "published": "#d55e00", "copy": "#767676", "copy_new": "#b0b0b0"}
KERNEL_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#9c6b00")
TITLES = {"knn": "k-NN", "kv": "KV", "key_only": "key-only", "softmax": "softmax"}
PASSES = {"forward": "forward", "training": "forward and backward"}
MIN_PEAK = 2**20
"""The peak in bytes below which growth of the resident set is noise."""

Series = dict[str, dict[int, float]]


def panels(measured: list[Record]) -> dict[str, tuple[Series, Series]]:
    """Return by title the seconds, and the peak bytes, per image and head by contender and n.

    Each operator and pass has a panel, k-NN attention one per approximate fraction of kept keys. Measurements at a
    single n have no panel.
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
            peaks.setdefault(record["contender"], {})[n] = max(record["peak_bytes"], MIN_PEAK) / share
    return {key: both for key, both in found.items() if max((len(s) for s in both[0].values()), default=0) > 1}


def draw(measured: list[Record], *files: Path) -> bool:
    """Draw the figure to each of `files`, whose suffixes give the formats; return False if there is no panel."""
    from matplotlib.figure import Figure

    from fewpairs.report.svg import drawing

    found = panels(measured)
    if not found:
        return False
    with drawing():
        figure = Figure(figsize=(9.6, 3.0 * len(found)), layout="constrained", facecolor="white")
        grid = figure.subplots(len(found), 2, squeeze=False)
        for axes, (title, (times, peaks)) in zip(grid, found.items(), strict=True):
            _lines(axes[0], times, 1e3, _crossings(times))
            _lines(axes[1], peaks, 2**-20, {})
            axes[0].set_title(title)
            axes[0].set_ylabel("ms per image and head")
            axes[1].set_ylabel("peak memory, MiB per image and head")
            axes[0].legend(frameon=False, fontsize=8)
        for file in files:
            figure.savefig(file, dpi=150)
    return True


def _lines(axis: Any, series: Series, factor: float, crossings: dict[str, tuple[str, float | None]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    names = list(series)
    for name, points in series.items():
        known = sorted(points.items())
        said, where = crossings.get(name, ("", None))
        axis.loglog(
            [n for n, _ in known],
            [factor * value for _, value in known],
            marker="o",
            markersize=4,
            color=_colour(name, names),
            linestyle="--" if name in BASELINES else "-",
            label=name + said,
        )
        if where is not None:
            axis.axvline(where, color=_colour(name, names), linewidth=0.9, linestyle=":")
    sizes = sorted({n for points in series.values() for n in points})
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _place: ""))
    axis.set_xlabel("n")
    axis.grid(alpha=0.6)


def _colour(name: str, names: list[str]) -> str:
    if name in COLOURS:
        return COLOURS[name]
    own = [each for each in names if each not in COLOURS]
    return KERNEL_COLOURS[own.index(name) % len(KERNEL_COLOURS)]


def _crossings(times: Series) -> dict[str, tuple[str, float | None]]:
    """Describe where the medians of each kernel and the baseline cross, and return the n to mark."""
    base = next((name for name in BASELINES if name in times), None)
    found: dict[str, tuple[str, float | None]] = {}
    for name in times:
        if base is None or name in BASELINES or not (common := sorted(set(times[name]) & set(times[base]))):
            continue
        where = crossover(times[name], times[base])
        if where is None:
            found[name] = f" (above {base} at n = {common[-1]:,})", None
        elif where == common[0]:
            found[name] = f" (below {base} from n = {common[0]:,} on)", None
        else:
            found[name] = f" (crosses {base} at n = {where:,.0f})", where
    return found
