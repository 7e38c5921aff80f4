"""Masks in COCO's run-length encoding: alternating runs of 0 and 1 down the columns, packed into characters.

pycocotools encodes masks, fills polygons and measures areas. Its C code does not check its input and would read beyond
the end of a damaged encoding, so this module checks every external encoding first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from fewpairs.errors import DataError
from fewpairs.types import Size

coco: Any = mask  # its published types are narrower than what it takes

_BITS, _MORE, _SIGN, _ZERO = 5, 0x20, 0x10, 48


def encode_masks(masks: Iterable[NDArray[Any]]) -> list[str]:
    """Encode masks `[o H W]`, bool or 0 and 1, as packed runs; of masks on demand, one at a time is held."""
    return [str(coco.encode(np.asfortranarray(one, np.uint8))["counts"], "ascii") for one in masks]


def decode_masks(counts: Sequence[str], size: Size) -> NDArray[np.bool_]:
    """Decode the packed runs of each mask to `[o H W]` bool; they must have passed `check_counts`."""
    masks = np.zeros((len(counts), *size), bool)
    for plane, one in zip(masks, counts, strict=True):
        runs = unpack(one)
        plane[...] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T
    return masks


def as_rle(counts: str, size: Size) -> dict[str, Any]:
    """Return pycocotools' dictionary of an encoding; `counts` is text, so it can be written as JSON."""
    return {"size": [int(size[0]), int(size[1])], "counts": counts}


def mask_areas(counts: Sequence[str], size: Size) -> NDArray[np.float64]:
    """Count the pixels of each mask, `[o]`."""
    if not counts:
        return np.zeros(0)
    return np.asarray(coco.area([as_rle(one, size) for one in counts]), np.float64).reshape(-1)


def mask_boxes(counts: Sequence[str], size: Size) -> NDArray[np.float64]:
    """Compute the smallest box `[o 4]` around each mask: left, top, right, bottom; zeros for an empty mask."""
    if not counts:
        return np.zeros((0, 4))
    boxes = np.asarray(coco.toBbox([as_rle(one, size) for one in counts]), np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def from_polygons(polygons: Sequence[Sequence[float]], size: Size) -> str:
    """Encode the union of polygons `x1 y1 x2 y2 ...` as packed runs, filled like pycocotools' `annToRLE`.

    Raises:
        DataError: there is no polygon, or one has fewer than three points, an unpaired or a non-finite coordinate.
    """
    if not polygons:
        raise DataError("it has no polygon")
    # Coordinates far outside the image would overflow pycocotools' integers, so they are clipped.
    low, high = -10.0 * max(size), 11.0 * max(size)
    kept = []
    for polygon in polygons:
        points = _numbers(polygon)
        if points is None:
            raise DataError("a polygon is not a list of finite numbers x1, y1, x2, y2, ...")
        if len(points) % 2:
            raise DataError(f"a polygon has {len(points)} coordinates, which are not pairs of x and y")
        if len(points) < 6:
            raise DataError(f"a polygon has {len(points) // 2} points, but an area needs 3")
        kept.append(np.clip(points, low, high).tolist())
    height, width = int(size[0]), int(size[1])
    merged = coco.merge(coco.frPyObjects(kept, height, width))
    return str(merged["counts"], "ascii")


def from_runs(runs: Sequence[int], size: Size) -> str:
    """Pack uncompressed runs, in which COCO stores crowds.

    Raises:
        DataError: runs are not whole numbers from 0 on, or do not fill the image.
    """
    if not all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs):
        raise DataError("its run lengths are not whole numbers from 0 on")
    if sum(runs) != size[0] * size[1]:
        raise DataError(f"its runs cover {sum(runs)} pixels, but the image has {size[0] * size[1]}")
    unpacked = {"size": [int(size[0]), int(size[1])], "counts": list(runs)}
    packed = coco.frPyObjects(unpacked, size[0], size[1])
    return str(packed["counts"], "ascii")


def check_counts(counts: str, size: Size) -> None:
    """Raise DataError unless `counts` are packed runs that fill an image of `size` exactly."""
    runs = unpack(counts)
    if (runs < 0).any():
        raise DataError("its encoding holds a run of negative length; it is damaged")
    if int(runs.sum()) != size[0] * size[1]:
        raise DataError(f"its runs cover {int(runs.sum())} pixels, but the image has {size[0] * size[1]}")


def unpack(counts: str) -> NDArray[np.int64]:
    """Decode run lengths: 5-bit groups, the lowest first; from the fourth run on, differences to the run two before.

    Raises:
        DataError: a character is invalid, or the encoding ends within a number.
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _ZERO
    except UnicodeEncodeError:
        raise DataError("its encoding holds characters that are not ASCII; it is damaged") from None
    if not len(codes) or codes.min() < 0 or codes.max() > 0x3F:
        raise DataError("its encoding is empty or holds characters outside of '0' to 'o'; it is damaged")
    last = (codes & _MORE) == 0
    if not last[-1]:
        raise DataError("its encoding ends within a number; it is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    if int((ends - starts).max()) > 8:
        raise DataError("its encoding holds a number too large for any image; it is damaged")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((codes & 0x1F) << (_BITS * place), starts)
    negative = (codes[ends] & _SIGN) != 0
    values = np.where(negative, values - (np.int64(1) << (_BITS * (ends - starts + 1))), values)
    runs = values.copy()
    for first in (1, 2):
        runs[first::2] = np.cumsum(values[first::2])
    return runs


def _numbers(polygon: object) -> NDArray[np.float64] | None:
    """Convert a list of finite numbers to an array; return None for anything else."""
    if not isinstance(polygon, list | tuple):
        return None
    try:
        points = np.array(polygon)
    except (ValueError, OverflowError):
        return None
    if points.ndim != 1 or (points.size and points.dtype.kind not in "iuf") or not np.isfinite(points).all():
        return None
    return points.astype(np.float64)
