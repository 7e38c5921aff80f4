"""Curves of the inspection page: each measure over the layers, for k-NN attention and its dense twin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fewpairs.inspection.page_text import TITLES
from fewpairs.inspection.result import HeadSummaries, Inspection, LayerInspection
from fewpairs.report.svg import PALETTE, Style, drawing, styles

_SIZE = (9.6, 5.0)
_FAR_APART = 30
"""Gradient norms that differ by more than this factor are drawn on a logarithmic axis."""
DENSE = "softmax"


def curves_figure(inspection: Inspection) -> Figure:
    """Up to six panels over the layers or blocks of a model; panels without numbers are left out."""
    layers = inspection.layers
    look = styles([DENSE, *dict.fromkeys(layer.attention for layer in layers)])
    own = look[next((layer.attention for layer in layers if layer.kept is not None), layers[0].attention)]
    dense = look[DENSE]
    draws = [
        draw
        for draw, present in (
            (_dropped, inspection.truncates),
            (_entropy, True),
            (_similarity, bool(inspection.blocks)),
            (_gradient, any(layer.gradient is not None for layer in layers)),
            (_distance, any(layer.distance is not None for layer in layers)),
            (_update, any(block.update is not None for block in inspection.blocks)),
        )
        if present
    ]
    with drawing():
        rows = math.ceil(len(draws) / 3)
        figure = Figure(figsize=(_SIZE[0], _SIZE[1] * rows / 2), layout="constrained")
        panels = list(figure.subplots(rows, 3, squeeze=False).flat)
        for axes in panels[len(draws) :]:
            axes.set_visible(False)
        for axes, draw in zip(panels, draws, strict=False):
            draw(axes, inspection, own, dense)
            axes.grid(axis="y")
            axes.tick_params(axis="y", labelcolor=PALETTE["muted"])
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.margins(x=0.04)
        names = {own: _title(next((n for n, style in look.items() if style == own), ""), inspection)}
        if inspection.truncates:
            names = {dense: "dense, the same weights"} | names
        handles = [
            Line2D([], [], color=style.colour, marker=style.marker, markersize=4, linewidth=1.6, label=name)
            for style, name in names.items()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=8.5)
        return figure


def _title(name: str, inspection: Inspection) -> str:
    return "k-NN" if inspection.truncates else TITLES.get(name, name)


def _dropped(axes: Axes, inspection: Inspection, own: Style, _dense: Style) -> None:
    top = 1e-3
    for layers in _alike(inspection.layers):
        measured = [layer.dropped for layer in layers if layer.dropped is not None]
        if not measured:
            continue
        xs = [layer.index for layer in layers]
        low, high = [one.all.low for one in measured], [one.all.high for one in measured]
        axes.fill_between(xs, low, high, color=PALETTE["band"], linewidth=0, zorder=1)
        _heads(axes, xs, measured, own)
        _line(axes, xs, [one.all.mean for one in measured], own)
        means = [head.mean for one in measured for head in one.heads]
        top = max([top, *filter(math.isfinite, [*high, *means])])
    axes.set_ylim(0, 1.05 * top)
    axes.set_title("Mass that top-k drops (τ)")
    axes.set_xlabel("attention layer")


def _entropy(axes: Axes, inspection: Inspection, own: Style, dense: Style) -> None:
    groups = _alike(inspection.layers)
    for layers in groups:
        xs = [layer.index for layer in layers]
        bounds = {"ln m": math.log(layers[0].keys)} | ({"ln k": math.log(layers[0].kept)} if layers[0].kept else {})
        for name, value in bounds.items():
            ends = xs[0] - 0.4, xs[-1] + 0.4
            axes.plot(ends, (value, value), color=PALETTE["muted"], linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
            if layers is groups[-1]:
                beside = axes.annotate(name, (ends[1], value), (0, 3), textcoords="offset points", ha="right")
                beside.set_fontsize(7.5)
        _line(axes, xs, [layer.entropy.all.mean for layer in layers], dense if inspection.truncates else own)
        after = [layer.entropy_kept.all.mean for layer in layers if layer.entropy_kept is not None]
        if after:
            _line(axes, xs, after, own)
    axes.set_ylim(0, 1.12 * math.log(max(layer.keys for layer in inspection.layers) + 1))
    axes.set_title("Entropy (nats)")
    axes.set_xlabel("attention layer")


def _similarity(axes: Axes, inspection: Inspection, own: Style, dense: Style) -> None:
    blocks = inspection.blocks
    xs = range(len(blocks))
    _pair(axes, xs, [b.similarity for b in blocks], [b.similarity_dense for b in blocks], own, dense)
    axes.set_title("Cosine similarity of tokens")
    axes.set_xlabel("block")


def _gradient(axes: Axes, inspection: Inspection, own: Style, dense: Style) -> None:
    found: list[float] = []
    for layers in _alike(inspection.layers):
        values = [layer.gradient.attention if layer.gradient else None for layer in layers]
        twins = [layer.gradient_dense.attention if layer.gradient_dense else None for layer in layers]
        _pair(axes, [layer.index for layer in layers], values, twins, own, dense)
        found += [value for value in [*values, *twins] if value is not None and math.isfinite(value)]
    if found and min(found) > 0 and max(found) > _FAR_APART * min(found):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_title("Gradient norm")
    axes.set_xlabel("attention layer")


def _distance(axes: Axes, inspection: Inspection, own: Style, dense: Style) -> None:
    for layers in _alike(inspection.layers):
        values = [layer.distance.all.mean if layer.distance else None for layer in layers]
        after = [layer.distance_kept.all.mean if layer.distance_kept else None for layer in layers]
        xs = [layer.index for layer in layers]
        if inspection.truncates:
            _pair(axes, xs, after, values, own, dense)
        else:
            _pair(axes, xs, values, after, own, dense)
    axes.set_ylim(bottom=0)
    axes.set_title("Distance of attention (patches)")
    axes.set_xlabel("attention layer")


def _update(axes: Axes, inspection: Inspection, own: Style, dense: Style) -> None:
    blocks = inspection.blocks
    _pair(axes, range(len(blocks)), [b.update for b in blocks], [b.update_dense for b in blocks], own, dense)
    axes.set_ylim(bottom=0)
    axes.set_title("Residual branch / skip")
    axes.set_xlabel("block")


def _alike(layers: Sequence[LayerInspection]) -> list[list[LayerInspection]]:
    """Groups of layers of one size, which alone are joined by a line."""
    groups: dict[tuple[int, ...], list[LayerInspection]] = {}
    for layer in layers:
        groups.setdefault((layer.heads, layer.queries, layer.keys, layer.kept or 0), []).append(layer)
    return list(groups.values())


def _pair(
    axes: Axes,
    xs: Sequence[int],
    own_values: Sequence[float | None],
    dense_values: Sequence[float | None],
    own: Style,
    dense: Style,
) -> None:
    if any(value is not None for value in dense_values):
        _line(axes, xs, [math.nan if value is None else value for value in dense_values], dense)
    _line(axes, xs, [math.nan if value is None else value for value in own_values], own)


def _line(axes: Axes, xs: Sequence[int], values: Sequence[float], style: Style) -> None:
    axes.plot(xs, values, color=style.colour, marker=style.marker, markersize=3.5, linewidth=1.6, zorder=3)


def _heads(axes: Axes, xs: Sequence[int], measured: Sequence[HeadSummaries], style: Style) -> None:
    for x, one in zip(xs, measured, strict=True):
        means = [head.mean for head in one.heads]
        axes.scatter([x] * len(means), means, s=7, facecolors="none", edgecolors=style.colour, linewidths=0.6)
