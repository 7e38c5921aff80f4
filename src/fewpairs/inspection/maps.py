"""The attention maps of the page as small pictures, with one pixel for each key, which the browser enlarges."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewpairs.inspection.result import LayerInspection, Picture, Row

VEIL = (43, 108, 116, 226)
"""Colour and opacity of the veil over dropped keys: teal, which is no weight's colour and rare in pictures."""
OVERLAY = 176
"""Opacity of saliency and gate maps, which lie over the picture."""
_BLANK = (0, 0, 0, 0)

Cells = NDArray[np.uint8]
"""`[rows columns 4]`: red, green, blue and opacity of every key that has a position."""


Box = tuple[float, float, float, float]
"""Top, left, height and width, as shares of the image."""


@dataclass(frozen=True, slots=True)
class HeadMaps:
    """The maps of one head for one query, on one scale from 0 to `highest`.

    `highest` is the largest weight; for saliency at least twice an equal share, so that equal shares get the middle
    colour; for a gate 1.
    """

    veil: Cells | None
    """Teal where keys are dropped, clear where they are kept; None for an attention that keeps every key."""
    dense: Cells
    truncated: Cells | None
    """Clear where keys are dropped."""
    highest: float
    dropped: float | None
    """The share of this query's weight that lies outside its k keys."""
    prefix_kept: tuple[bool, ...]
    """Whether each key without a position is kept."""
    prefix_dense: float
    """The total weight of the keys without a position."""
    prefix_truncated: float
    note: str = ""
    """The range of values that the colours of saliency or gate stand for."""


def head_maps(row: Row) -> list[HeadMaps]:
    """The maps of every head."""
    return [_one_head(row, head) for head in range(len(row.weights))]


def _one_head(row: Row, head: int) -> HeadMaps:
    weights, after, prefix = row.weights[head], row.truncated[head], row.position.prefix
    kept = np.ones(len(weights), bool) if row.kept is None else row.kept[head]
    placed = np.concatenate([weights[prefix:], after[prefix:]])
    highest = float(placed.max()) if np.isfinite(placed).all() else float("nan")
    if row.what == "saliency":
        highest = max(highest, 2 / len(weights))
    elif row.what == "gate":
        highest = 1.0 + 0 * highest
    dense = _on_grid(row, _heat(weights[prefix:], highest))
    if row.what != "weights":
        dense[..., 3] = np.minimum(dense[..., 3], OVERLAY)
    heat = _on_grid(row, _heat(after[prefix:], highest))
    clear = _on_grid(row, np.where(kept[prefix:, None], np.uint8(255), np.uint8(0)))[..., :1]
    veil = np.where(clear > 0, np.array(_BLANK, np.uint8), np.array(VEIL, np.uint8))
    return HeadMaps(
        veil=None if row.kept is None else veil,
        dense=dense,
        truncated=None if row.kept is None else np.concatenate([heat[..., :3], np.minimum(heat[..., 3:], clear)], -1),
        highest=highest,
        dropped=None if row.kept is None else float(weights[~kept].sum() + 0 * weights.sum()),
        prefix_kept=tuple(bool(one) for one in kept[:prefix]),
        prefix_dense=float(weights[:prefix].sum()),
        prefix_truncated=float(after[:prefix].sum()),
        note=_note(row.what, weights[prefix:], len(weights)),
    )


def _note(what: str, values: NDArray[np.float32], count: int) -> str:
    """The range of the drawn values, `0.41 to 0.87`; for saliency in equal shares of `count`, `×0.41 to ×1.87`."""
    if what == "weights" or not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    if what == "saliency":
        return f"×{low * count:.2f} to ×{high * count:.2f}"
    return f"{low:.2f} to {high:.2f}"


def _heat(weights: NDArray[np.float32], highest: float) -> Cells:
    """Colours `[m 4]`: dark violet for zero, pale yellow for the highest weight, grey for what is not a number."""
    from matplotlib import colormaps

    scale = highest if highest > 0 else 1.0
    colours: Cells = colormaps["magma"].with_extremes(bad="#808080")(weights / scale, bytes=True)
    return colours


def _on_grid(row: Row, cells: Cells) -> Cells:
    """Arranges cells `[m c]` by rows; without known positions, nearly as a square, filled up with clear cells."""
    shape = map_shape(row)
    missing = shape[0] * shape[1] - len(cells)
    filled = np.concatenate([cells, np.zeros((missing, cells.shape[1]), np.uint8)])
    return filled.reshape(*shape, cells.shape[1])


def map_shape(row: Row) -> tuple[int, int]:
    """Rows and columns of the keys that have a position."""
    if row.position.rows:
        return len(row.position.rows), len(row.position.columns)
    count = row.weights.shape[1] - row.position.prefix
    columns = max(1, int(np.ceil(np.sqrt(count))))
    return max(1, -(-count // columns)), columns


def backdrop(layer: LayerInspection, row: Row, picture: Picture, *, longest: int = 168) -> Picture | None:
    """The part of the picture that the query's keys cover, at most `longest` pixels a side; None where it is unknown.

    Parts of a window beyond the edge of the image are grey; a shifted window that wraps around shows both edges.
    """
    if not row.position.rows or layer.grid is None:
        return None
    if not layer.windowed:
        return thumbnail(picture, longest)
    rows, columns = len(row.position.rows), len(row.position.columns)
    side = max(1, longest // max(rows, columns))
    ys, below = _pixels(row.position.rows, layer.grid[0], picture.shape[0], side)
    xs, beside = _pixels(row.position.columns, layer.grid[1], picture.shape[1], side)
    part: Picture = picture[ys][:, xs].copy()
    part[below] = part[:, beside] = 128
    return part


def extent(layer: LayerInspection, row: Row) -> list[Box]:
    """The boxes on the image that a query's window covers: several for a window that wraps around."""
    if layer.grid is None or not layer.windowed:
        return []
    parts = [
        _runs(lines, count) for lines, count in zip((row.position.rows, row.position.columns), layer.grid, strict=True)
    ]
    return [(top, left, tall, wide) for top, tall in parts[0] for left, wide in parts[1]]


def _runs(lines: tuple[int, ...], count: int) -> list[tuple[float, float]]:
    """Start and length of each run of neighbouring lines on the image, as shares of its `count` lines."""
    inside = sorted(line for line in lines if line < count)
    breaks = [i for i in range(1, len(inside)) if inside[i] != inside[i - 1] + 1]
    runs = [inside[start:stop] for start, stop in zip([0, *breaks], [*breaks, len(inside)], strict=True)]
    return [(run[0] / count, len(run) / count) for run in runs if run]


def _pixels(lines: tuple[int, ...], count: int, length: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The picture's pixel for each of `side` pixels a line, and whether the line lies beyond the `count` real ones."""
    places = (np.array(lines)[:, None] + (np.arange(side) + 0.5) / side).ravel()
    return np.minimum((places / count * length).astype(np.intp), length - 1), places >= count


def thumbnail(picture: Picture, longest: int) -> Picture:
    """The picture with its longer side reduced to at most `longest` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def png(cells: NDArray[np.uint8]) -> str:
    """The cells as a PNG in a data URL."""
    buffer = BytesIO()
    Image.fromarray(cells).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def jpeg(picture: Picture) -> str:
    """The picture as a JPEG in a data URL."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
