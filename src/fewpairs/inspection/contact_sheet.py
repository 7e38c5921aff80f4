"""Contact sheet of one layer's maps: a row for each query with its kept keys, dense and k-NN weights; heads across."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fewpairs.inspection.maps import VEIL, Cells, HeadMaps, backdrop, head_maps, map_shape
from fewpairs.inspection.result import Inspection, LayerInspection, Picture, Row

_TILE, _GAP, _SIDE, _HEAD = 112, 6, 92, 22
_PAPER, _INK, _MUTED, _MARK = (255, 255, 255), (29, 36, 48), (92, 102, 117), (255, 255, 255)


def layer_contact_sheet(inspection: Inspection, layer: LayerInspection) -> Image.Image:
    """The maps of every drawn query and head, on white."""
    blocks = [(row, head_maps(row)) for row in layer.rows]
    names = ["kept", "dense", "k-NN"] if layer.kept is not None else [""]
    heights = [_tile_height(inspection, layer, row) for row, _ in blocks]
    width = _SIDE + layer.heads * (_TILE + _GAP)
    height = 2 * _HEAD + sum(len(names) * (tall + _GAP) + 2 * _GAP for tall in heights)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    draw.text((_GAP, 4), f"layer {layer.index}  {layer.name}", fill=_INK, font=font)
    for head in range(layer.heads):
        draw.text((_SIDE + head * (_TILE + _GAP), _HEAD), f"head {head}", fill=_MUTED, font=font)
    top = 2 * _HEAD
    for (row, maps), tall in zip(blocks, heights, strict=True):
        draw.text((_GAP, top), row.label, fill=_INK, font=font)
        for line, name in enumerate(names):
            y = top + line * (tall + _GAP)
            draw.text((_GAP, y + tall - 16), name or row.what, fill=_MUTED, font=font)
            for head, one in enumerate(maps):
                tile = _tile(inspection, layer, row, one, name, (_TILE, tall))
                sheet.paste(tile, (_SIDE + head * (_TILE + _GAP), y))
        top += len(names) * (tall + _GAP) + 2 * _GAP
    return sheet


def _tile_height(inspection: Inspection, layer: LayerInspection, row: Row) -> int:
    behind = backdrop(layer, row, inspection.picture)
    height, width = map_shape(row) if layer.windowed or behind is None else behind.shape[:2]
    return max(1, round(_TILE * height / width))


def _tile(
    inspection: Inspection, layer: LayerInspection, row: Row, maps: HeadMaps, name: str, size: tuple[int, int]
) -> Image.Image:
    if name == "kept" and maps.veil is not None:
        behind = backdrop(layer, row, inspection.picture)
        tile = _enlarged(behind, size) if behind is not None else Image.new("RGB", size, VEIL[:3])
        veil = _enlarged(maps.veil, size)
        tile.paste(veil, (0, 0), veil)
    else:
        cells: Cells = maps.truncated if name == "k-NN" and maps.truncated is not None else maps.dense
        heat = _enlarged(cells, size)
        behind = None if row.what == "weights" else backdrop(layer, row, inspection.picture)
        tile = Image.new("RGB", size, VEIL[:3]) if behind is None else _enlarged(behind, size)
        tile.paste(heat, (0, 0), heat)
    if row.position.cell is not None:
        y, x, tall, wide = row.position.cell
        box = [x * size[0], y * size[1], (x + wide) * size[0] - 1, (y + tall) * size[1] - 1]
        ImageDraw.Draw(tile).rectangle([round(side) for side in box], outline=_MARK, width=1)
    return tile


def _enlarged(cells: Cells | Picture, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(cells)).resize(size, Image.Resampling.NEAREST)
