"""The record of one image: its truth and its detections, which suffice for COCO's scores, independent of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.masks import check_counts, encode_masks
from fewpairs.scoring.records import Record, is_index
from fewpairs.types import Detections, MasksOnDemand, Objects, Size

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class DetectionRecord(Record):
    """The truth and the detections of one image. Boxes are left, top, right, bottom in pixels of the image."""

    what = "an image with detections"

    id: str
    size: Size
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    crowd: tuple[bool, ...]
    area: tuple[float, ...]
    """Annotated area in px^2, which defines COCO's size ranges of boxes and masks."""
    masks: tuple[str, ...] | None
    """Packed runs (see `masks`); None together with `found_masks` if only boxes are scored."""
    found_boxes: tuple[Box, ...]
    found_scores: tuple[float, ...]
    found_labels: tuple[int, ...]
    found_masks: tuple[str, ...] | None
    not_finite: int
    """Number of detections that were left out because their score or box is not finite."""
    classes: tuple[str, ...]
    """Names of the classes, the same for all images of an evaluation; written once for a whole file."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.id,)

    @property
    def form(self) -> str:
        return "without masks" if self.masks is None else "with masks"

    @classmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> DetectionRecord:
        size = data["size"]
        sized = isinstance(size, list) and len(size) == 2 and all(is_index(side, 1, 2**31) for side in size)
        if not isinstance(data["id"], str) or not sized or not is_index(data["not_finite"], 0, 2**31):
            raise DataError(f"image {data['id']!r} has fields of the wrong type")
        for group, columns in (("", _TRUTH), ("found_", _FOUND)):
            _check_group(data, group, columns, len(classes))
        if (data["masks"] is None) != (data["found_masks"] is None):
            raise DataError(f"image {data['id']!r} has masks only in the truth or only in the detections")
        return cls(classes=classes, **{name: _frozen(value) for name, value in data.items()})


_TRUTH, _FOUND = ("boxes", "labels", "crowd", "area", "masks"), ("boxes", "scores", "labels", "masks")


def detection_record(
    id: str,  # noqa: A002
    size: Size,
    truth: Objects,
    found: Detections,
    *,
    classes: tuple[str, ...],
    masks: bool,
) -> DetectionRecord:
    """Make the record of an image of `size` (h, w); detections are sorted by score.

    Raises InputError if labels are not classes, or masks are missing or have another size.
    """
    for who, labels in (("the truth", truth.labels), ("the model", found.labels)):
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            worst = int(labels.max()) if int(labels.min()) >= 0 else int(labels.min())
            raise InputError(f"image {id!r}: {who} has class number {worst}, but classes are 0 to {len(classes) - 1}")
    boxes, scores = found.boxes.detach().cpu().double(), found.scores.detach().cpu().double()
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores)
    order = torch.nonzero(finite)[:, 0]
    order = order[torch.sort(scores[order], descending=True, stable=True).indices]
    return DetectionRecord(
        id,
        (int(size[0]), int(size[1])),
        _boxes(truth.boxes),
        tuple(truth.labels.tolist()),
        tuple(truth.crowd.tolist()),
        tuple(truth.area.double().tolist()),
        _runs(id, "the truth", truth.masks, size) if masks else None,
        _boxes(boxes[order]),
        tuple(scores[order].tolist()),
        tuple(found.labels.cpu()[order].tolist()),
        _runs(id, "the model", None if found.masks is None else found.masks[order.to(found.boxes.device)], size)
        if masks
        else None,
        int((~finite).sum()),
        classes,
    )


def _boxes(boxes: Tensor) -> tuple[Box, ...]:
    return tuple((left, top, right, bottom) for left, top, right, bottom in boxes.double().tolist())


def _runs(name: str, who: str, masks: Tensor | MasksOnDemand | None, size: Size) -> tuple[str, ...]:
    if masks is None:
        raise InputError(f"image {name!r}: masks are scored, but {who} has boxes alone")
    if tuple(masks.shape[1:]) != tuple(size):
        raise InputError(f"image {name!r}: masks of {who} are {list(masks.shape[1:])}, but the image is {list(size)}")
    return tuple(encode_masks(mask.detach().cpu().numpy() for mask in masks))


def _check_group(data: Mapping[str, Any], group: str, columns: Sequence[str], classes: int) -> None:
    name, length = data["id"], None
    for column in columns:
        values = data[f"{group}{column}"]
        if column == "masks" and values is None:
            continue
        length = len(values) if length is None and isinstance(values, list) else length
        if not isinstance(values, list) or len(values) != length:
            raise DataError(f"image {name!r}: {group}{column} is not a list of {length} values")
        if not all(_fits(column, value, data["size"], classes) for value in values):
            raise DataError(f"image {name!r}: {group}{column} holds a value of the wrong type or size")


def _fits(column: str, value: object, size: Sequence[int], classes: int) -> bool:
    if column == "boxes":
        return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
    if column == "labels":
        return is_index(value, 0, classes)
    if column == "crowd":
        return isinstance(value, bool)
    if column == "masks":
        if isinstance(value, str):
            check_counts(value, (size[0], size[1]))
        return isinstance(value, str)
    return _is_number(value)


def _frozen(value: Any) -> Any:
    """Convert lists from JSON to tuples."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
