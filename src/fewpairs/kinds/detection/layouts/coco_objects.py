"""Reads an entry of COCO's `annotations`: box, area, crowd, and a mask as polygons or run lengths, packed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fewpairs.errors import DataError
from fewpairs.kinds.detection import masks as coco_masks
from fewpairs.kinds.detection.source_builder import RawObject
from fewpairs.types import Size

_LARGE = 1e30


class BadObjectError(DataError):
    """An entry that cannot be used; `kind` is the name of the issue, and `kept` is the object without its bad mask."""

    def __init__(self, kind: str, message: str, kept: RawObject | None = None) -> None:
        self.kind, self.kept = kind, kept
        super().__init__(message)


def read_object(entry: Mapping[str, Any], size: Size, label: int, place: str) -> RawObject:
    """Read the object of an entry in an image of `size`; without a box, the bounding box of the mask is used.

    Raises:
        BadObjectError: the entry has neither box nor mask, or one of them is damaged.
    """
    try:
        mask = _mask(entry.get("segmentation"), size)
    except DataError as error:
        rest = {name: value for name, value in entry.items() if name != "segmentation"}
        box = rest.get("bbox")
        kept = None if box is None else replace(read_object(rest, size, label, place), damaged=True)
        raise BadObjectError("bad-mask", str(error), kept) from None
    box = entry.get("bbox")
    if box is None and mask is not None:
        left, top, right, bottom = (float(value) for value in coco_masks.mask_boxes([mask], size)[0])
    elif isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    else:
        raise BadObjectError("bad-object", f"its bbox is not four numbers x, y, width, height: {str(box)[:60]}")
    area, crowd = entry.get("area"), entry.get("iscrowd", 0)
    if area is not None and (not _is_number(area) or area < 0):
        raise BadObjectError("bad-object", f"its area is not a number from 0 on: {str(area)[:60]}")
    if crowd not in (0, 1, None):
        raise BadObjectError("bad-object", f"its iscrowd is neither 0 nor 1: {str(crowd)[:60]}")
    return RawObject(
        (float(left), float(top), float(right), float(bottom)),
        label,
        place,
        None if area is None else float(area),
        bool(crowd),
        mask,
    )


def _mask(found: object, size: Size) -> str | None:
    """Return the packed runs; None if there is no mask."""
    if found is None or found == []:
        return None
    if isinstance(found, list):
        return coco_masks.from_polygons(found, size)
    if isinstance(found, dict):
        return _runs(found, size)
    raise DataError(f"its segmentation is neither polygons nor run lengths: {str(found)[:60]}")


def _runs(found: Mapping[str, Any], size: Size) -> str:
    stated, counts = found.get("size"), found.get("counts")
    if stated is not None and stated != list(size):
        raise DataError(f"its run lengths are for {stated}, but the image has {list(size)} (height, width)")
    if isinstance(counts, str):
        coco_masks.check_counts(counts, size)
        return counts
    if isinstance(counts, list):
        return coco_masks.from_runs(counts, size)
    raise DataError("its run lengths have no counts")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _LARGE  # neither infinite nor NaN
