"""The tables of the inspection page."""

from __future__ import annotations

import math

from fewpairs.inspection.page_text import stage_of
from fewpairs.inspection.result import BlockInspection, HeadSummaries, Inspection, LayerInspection
from fewpairs.numbers import MISSING, number, scientific
from fewpairs.report.table import Cell, Table


def layers_table(inspection: Inspection) -> Table:
    """One row for each attention layer: its size, and each measure over all heads and queries, dense beside k-NN."""
    layers, blocks = inspection.layers, {block.name: block for block in inspection.blocks}
    columns = ["Layer", "Heads", "Keys"]
    columns += ["k", "Dropped τ"] * inspection.truncates
    columns += ["Entropy"]
    columns += ["Distance (patches)"] * any(layer.distance is not None for layer in layers)
    columns += ["Gradient"] * any(layer.gradient is not None for layer in layers)
    columns += ["Similarity"] * bool(blocks)
    body = []
    for layer in layers:
        windows = f"{layer.attentions} windows" if layer.windowed else f"{layer.queries} queries"
        windows = windows if layer.pairs or layer.windowed else "no queries"
        cells = [Cell(str(layer.index), layer.name), Cell(str(layer.heads)), Cell(str(layer.keys), windows)]
        if inspection.truncates:
            cells += [Cell("all" if layer.kept is None else str(layer.kept)), _spread(layer.dropped)]
        bounds = f"ln m {math.log(layer.keys):.2f}" + (f", ln k {math.log(layer.kept):.2f}" if layer.kept else "")
        cells.append(Cell(_entropy(layer), bounds))
        if "Distance (patches)" in columns:
            cells.append(Cell(_change(_mean(layer.distance), _mean(layer.distance_kept), 2)))
        if "Gradient" in columns:
            cells.append(Cell(_gradient(layer)))
        if blocks:
            cells.append(Cell(_similarity(blocks.get(layer.block))))
        body.append(tuple(cells))
    caption = "Every attention layer, over all of its heads and queries" + "; dense → k-NN" * inspection.truncates
    return Table(caption, tuple(columns), tuple(body))


def short_table(inspection: Inspection) -> Table:
    """The same in fewer columns, for a terminal."""
    body = []
    for layer in inspection.layers:
        kept = str(layer.keys) if layer.kept is None else f"{layer.kept} of {layer.keys}"
        tau = number(_mean(layer.dropped))
        texts = (str(layer.index), layer.name, kept, tau, _entropy(layer), _gradient(layer))
        body.append(tuple(Cell(text) for text in texts))
    caption = f"Attention of {inspection.subject.model}" + ", dense → k-NN" * inspection.truncates
    return Table(caption, ("", "layer", "keys", "τ", "entropy", "gradient"), tuple(body))


def heads_table(layer: LayerInspection) -> Table:
    """One row a head: mean and quantiles of what it drops, entropy, distance."""
    columns = ["Head"]
    columns += ["Dropped τ, mean", "5 %", "25 %", "median", "75 %", "95 %"] * (layer.dropped is not None)
    columns += ["Entropy"] + ["after"] * (layer.entropy_kept is not None)
    columns += ["Distance"] * (layer.distance is not None) + ["after"] * (layer.distance_kept is not None)
    body = []
    for head in range(layer.heads):
        cells = [Cell(str(head))]
        if layer.dropped is not None:
            one = layer.dropped.heads[head]
            shown = (one.mean, one.low, one.quarter, one.median, one.three_quarters, one.high)
            cells += [Cell(number(value)) for value in shown]
        for measured, digits in (
            (layer.entropy, 2),
            (layer.entropy_kept, 2),
            (layer.distance, 2),
            (layer.distance_kept, 2),
        ):
            cells += [] if measured is None else [Cell(number(measured.heads[head].mean, digits))]
        body.append(tuple(cells))
    caption = "Every head over all of its queries" if layer.pairs else "Saliency of every head"
    return Table(caption, tuple(columns), tuple(body))


def stages(inspection: Inspection) -> list[str]:
    """Heads, tokens and k of the layers, with layers of one size on one line."""
    alike: dict[str, list[int]] = {}
    for layer in inspection.layers:
        alike.setdefault(stage_of(layer), []).append(layer.index)
    return [f"{_numbered(indices)}: {what}" for what, indices in alike.items()]


def _numbered(indices: list[int]) -> str:
    if len(indices) == 1:
        return f"layer {indices[0]}"
    if indices[-1] - indices[0] == len(indices) - 1:
        return f"layers {indices[0]} to {indices[-1]}"
    return f"layers {', '.join(map(str, indices))}"


def _mean(measured: HeadSummaries | None) -> float | None:
    return None if measured is None else measured.all.mean


def _spread(measured: HeadSummaries | None) -> Cell:
    if measured is None:
        return Cell(MISSING)
    return Cell(number(measured.all.mean), f"{number(measured.all.low)} to {number(measured.all.high)}")


def _entropy(layer: LayerInspection) -> str:
    return _change(layer.entropy.all.mean, _mean(layer.entropy_kept), 2)


def _similarity(block: BlockInspection | None) -> str:
    if block is None:
        return MISSING
    if block.similarity_dense is None:
        return number(block.similarity)
    return _change(block.similarity_dense, block.similarity, 3)


def _gradient(layer: LayerInspection) -> str:
    if layer.gradient is None:
        return MISSING
    own = scientific(layer.gradient.attention)
    return own if layer.gradient_dense is None else f"{scientific(layer.gradient_dense.attention)} → {own}"


def _change(first: float | None, second: float | None, digits: int) -> str:
    return number(first, digits) + (f" → {number(second, digits)}" if second is not None else "")
