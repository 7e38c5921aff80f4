"""Masks as COCO's run-length encoding: alternating runs of 0 and 1 down the columns, packed into characters.

pycocotools encodes, fills polygons and measures. Its C code trusts what it is given, so every encoding from outside is
checked here first: a damaged one would read beyond its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from fewpairs.errors import DataError
from fewpairs.types import Size

coco: Any = mask  # its published types are narrower than what it takes

_BITS, _MORE, _SIGN, _ZERO = 5, 0x20, 0x10, 48


def encode_masks(masks: NDArray[Any]) -> list[str]:
    """`[o H W]` bool or 0 and 1 -> the packed runs of each mask."""
    if not len(masks):
        return []
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8, copy=False))
    return [str(one["counts"], "ascii") for one in coco.encode(columns)]


def decode_masks(counts: Sequence[str], size: Size) -> NDArray[np.bool_]:
    """Packed runs of each mask -> `[o H W]` bool. They must have passed `check_counts`."""
    masks = np.zeros((len(counts), *size), bool)
    for plane, one in zip(masks, counts, strict=True):
        runs = unpack(one)
        plane[...] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T
    return masks


def as_rle(counts: str, size: Size) -> dict[str, Any]:
    """What pycocotools calls an encoding; with `counts` as text it can be written as JSON."""
    return {"size": [int(size[0]), int(size[1])], "counts": counts}


def mask_areas(counts: Sequence[str], size: Size) -> NDArray[np.float64]:
    """Pixels of each mask, `[o]`."""
    if not counts:
        return np.zeros(0)
    return np.asarray(coco.area([as_rle(one, size) for one in counts]), np.float64).reshape(-1)


def mask_boxes(counts: Sequence[str], size: Size) -> NDArray[np.float64]:
    """The smallest box around each mask, `[o 4]` left, top, right, bottom; zeros for an empty mask."""
    if not counts:
        return np.zeros((0, 4))
    boxes = np.asarray(coco.toBbox([as_rle(one, size) for one in counts]), np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def from_polygons(polygons: Sequence[Sequence[float]], size: Size) -> str:
    """Packed runs of the union of polygons `x1 y1 x2 y2 ...`, as pycocotools' `annToRLE` fills them.

    Raises:
        DataError: no polygon, fewer than three points, an odd number of coordinates, or one that is no finite number.
    """
    if not polygons:
        raise DataError("it has no polygon")
    # Beyond some margin pycocotools' integers would overflow; what is cut off there lies outside anyway.
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
    """Packed runs out of unpacked ones, as COCO stores crowds.

    Raises:
        DataError: runs that are no whole numbers from 0 on, or do not fill the image.
    """
    if not all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs):
        raise DataError("its run lengths are not whole numbers from 0 on")
    if sum(runs) != size[0] * size[1]:
        raise DataError(f"its runs cover {sum(runs)} pixels, the image has {size[0] * size[1]}")
    unpacked = {"size": [int(size[0]), int(size[1])], "counts": list(runs)}
    packed = coco.frPyObjects(unpacked, size[0], size[1])
    return str(packed["counts"], "ascii")


def check_counts(counts: str, size: Size) -> None:
    """Raise DataError unless `counts` are packed runs that fill an image of `size` exactly."""
    runs = unpack(counts)
    if (runs < 0).any():
        raise DataError("its encoding holds a run of negative length; it is damaged")
    if int(runs.sum()) != size[0] * size[1]:
        raise DataError(f"its runs cover {int(runs.sum())} pixels, the image has {size[0] * size[1]}")


def unpack(counts: str) -> NDArray[np.int64]:
    """The lengths of the runs: groups of 5 bits, the lowest first, each run but the first three less its second last.

    Raises:
        DataError: characters that no encoding has, or an end within a number.
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
    """A list of finite numbers as an array; None for anything else."""
    if not isinstance(polygon, list | tuple):
        return None
    try:
        points = np.array(polygon)
    except (ValueError, OverflowError):
        return None
    if points.ndim != 1 or (points.size and points.dtype.kind not in "iuf") or not np.isfinite(points).all():
        return None
    return points.astype(np.float64)
