"""Contact sheet of a scan: some of its slices with the predicted masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fewpairs.report.overlay import overlay, overlay_strip

SLICES = 6
"""Largest number of slices on a sheet."""
_COLUMNS = 3
_GAP = 4
_SHORT_SIDE = 192
_LONG_SIDE = 2048
"""Slices that are longer are shown by every second, third, ... row and column."""


def contact_sheet(
    image: NDArray[Any], masks: NDArray[np.bool_], classes: Sequence[str], *, title: str = ""
) -> Image.Image:
    """Draw a scan `[s c H W]` with its masks `[s k H W]`: a single slice beside its mask, several slices in a grid.

    Slices are spread evenly over those with a predicted class, or over the scan if there are none. Each is shown from
    its 0.5th to its 99.5th percentile: its first channel, or its colours if it is unsigned and has three channels.
    """
    thinned = math.ceil(max(image.shape[2:]) / _LONG_SIDE)
    image, masks = image[:, :, ::thinned, ::thinned], masks[:, :, ::thinned, ::thinned]
    if len(image) == 1:
        return overlay_strip(_shown(image[0]), None, masks[0], classes, title=title)
    factor = math.ceil(_SHORT_SIDE / min(image.shape[2:]))
    chosen = chosen_slices(np.asarray(masks.any(axis=(1, 2, 3))))
    columns = min(_COLUMNS, len(chosen))
    pixels = _tiled([_enlarged(_shown(image[index]), factor) for index in chosen], columns)
    found = _tiled([masks[index].repeat(factor, 1).repeat(factor, 2).transpose(1, 2, 0) for index in chosen], columns)
    heading = f"slices {chosen[0] + 1} to {chosen[-1] + 1}"
    return overlay(pixels, None, found.transpose(2, 0, 1), classes, title=f"{title}, {heading}" if title else heading)


def chosen_slices(found: NDArray[np.bool_]) -> list[int]:
    """Return at most `SLICES` indices, evenly spread over the slices where `found [s]` is true, or else over all."""
    candidates = np.flatnonzero(found) if found.any() else np.arange(len(found))
    places = np.linspace(0, len(candidates) - 1, min(SLICES, len(candidates)))
    return [int(candidates[round(place)]) for place in places]


def _shown(slice_: NDArray[Any]) -> NDArray[np.float64]:
    """Scale a slice `[c H W]` to `[H W]` or `[H W 3]` in 0..1."""
    colour = len(slice_) == 3 and slice_.dtype.kind == "u"
    pixels = slice_.transpose(1, 2, 0).astype(np.float64) if colour else slice_[0].astype(np.float64)
    low, high = np.percentile(pixels, (0.5, 99.5))
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    return np.clip((pixels - low) / (high - low if high > low else 1.0), 0, 1)


def _enlarged(picture: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Enlarge `[H W ...]` by `factor` with linear interpolation."""
    zoom = (factor, factor, *(1 for _ in picture.shape[2:]))
    larger = ndimage.zoom(picture, zoom, order=1, mode="nearest", grid_mode=True) if factor > 1 else picture
    return np.asarray(larger, np.float64)


def _tiled(slices: Sequence[NDArray[Any]], columns: int) -> NDArray[Any]:
    """Arrange pictures `[H W ...]` of one size in rows of `columns`, separated by zeros."""
    first = slices[0]
    height, width = first.shape[:2]
    rows = math.ceil(len(slices) / columns)
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, *first.shape[2:])
    sheet = np.zeros(shape, first.dtype)
    for place, picture in enumerate(slices):
        top, left = (place // columns) * (height + _GAP), (place % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
