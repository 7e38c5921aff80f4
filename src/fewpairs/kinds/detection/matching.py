"""Matches detections to the truth with pycocotools, once for all resamples of images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fewpairs.kinds.detection.masks import as_rle, mask_areas
from fewpairs.kinds.detection.record import DetectionRecord

Overlap = Literal["bbox", "segm"]

RANGES = ("all", "small", "medium", "large")
"""COCO's ranges of area, with their limits at 32^2 and 96^2 px^2."""
MAX_DETECTIONS = 100
"""COCO's number of best detections per class and image that count."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The detections of one class in one range of area, over all images, the highest score first."""

    image: NDArray[np.int64]
    """`[d]`, the index of the image."""
    hit: NDArray[np.bool_]
    """`[10 d]`, true positives at each of the ten overlap thresholds 0.50, 0.55, ... 0.95."""
    miss: NDArray[np.bool_]
    """`[10 d]`, false positives; detections that are neither are ignored, for example on a crowd."""
    truth: NDArray[np.int64]
    """`[images]`, number of objects that count."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The matched detections of an evaluation."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    curves: dict[tuple[int, str], Curve]
    """Curves by class and range of area; classes without truth and detections are left out."""
    not_finite: NDArray[np.int64]
    """`[images]`, number of detections that were left out because they are not finite."""


def match(
    records: Sequence[DetectionRecord], overlap: Overlap = "bbox", *, max_detections: int = MAX_DETECTIONS
) -> Matches:
    """Match each image's detections with its truth as COCOeval does: greedily by score; a crowd can match repeatedly.

    Args:
        records: one for each image, sorted by name; detections with equal scores keep this order.
        overlap: the overlap of boxes or of masks.
    """
    classes = records[0].classes
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_truth(records, overlap), iouType=overlap)
        evaluation.cocoDt = _found(records, overlap)
        evaluation.params.imgIds = list(range(1, len(records) + 1))
        evaluation.params.catIds = list(range(1, len(classes) + 1))
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
    images: list[Any] = evaluation.evalImgs
    curves: dict[tuple[int, str], Curve] = {}
    for label in range(len(classes)):
        for place, name in enumerate(RANGES):
            start = (label * len(RANGES) + place) * len(records)
            curve = _curve(images[start : start + len(records)], max_detections)
            if curve is not None:
                curves[label, name] = curve
    return Matches(
        tuple(record.id for record in records), classes, curves, np.array([record.not_finite for record in records])
    )


def _curve(images: Sequence[dict[str, Any] | None], most: int) -> Curve | None:
    """Join COCOeval's results of all images as its `accumulate` does."""
    there = [(place, one) for place, one in enumerate(images) if one is not None]
    if not there:
        return None
    scores = np.concatenate([one["dtScores"][:most] for _, one in there])
    image = np.concatenate([np.full(len(one["dtScores"][:most]), place) for place, one in there])
    matched = np.concatenate([one["dtMatches"][:, :most] for _, one in there], axis=1) != 0
    ignored = np.concatenate([one["dtIgnore"][:, :most] for _, one in there], axis=1) != 0
    order = np.argsort(-scores, kind="mergesort")
    truth = np.zeros(len(images), np.int64)
    for place, one in there:
        truth[place] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
    hit, miss = matched & ~ignored, ~matched & ~ignored
    return Curve(image[order].astype(np.int64), hit[:, order], miss[:, order], truth)


def _truth(records: Sequence[DetectionRecord], overlap: Overlap) -> COCO:
    entries: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        for place, (left, top, right, bottom) in enumerate(record.boxes):
            entry: dict[str, Any] = {
                "id": len(entries) + 1,
                "image_id": number,
                "category_id": record.labels[place] + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": record.area[place],
                "iscrowd": int(record.crowd[place]),
            }
            if overlap == "segm" and record.masks is not None:
                entry["segmentation"] = as_rle(record.masks[place], record.size)
            entries.append(entry)
    return _coco(records, entries)


def _found(records: Sequence[DetectionRecord], overlap: Overlap) -> COCO:
    """Convert detections as `COCO.loadRes` does: their area is that of the box, or of the mask."""
    entries: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        masks = record.found_masks if overlap == "segm" else None
        areas = None if masks is None else mask_areas(masks, record.size)
        for place, (left, top, right, bottom) in enumerate(record.found_boxes):
            width, height = max(right - left, 0.0), max(bottom - top, 0.0)
            entry: dict[str, Any] = {
                "id": len(entries) + 1,
                "image_id": number,
                "category_id": record.found_labels[place] + 1,
                "bbox": [left, top, width, height],
                "score": record.found_scores[place],
                "area": width * height if areas is None else float(areas[place]),
                "iscrowd": 0,
            }
            if masks is not None:
                entry["segmentation"] = as_rle(masks[place], record.size)
            entries.append(entry)
    return _coco(records, entries)


def _coco(records: Sequence[DetectionRecord], entries: list[dict[str, Any]]) -> COCO:
    coco: Any = COCO()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": number, "height": record.size[0], "width": record.size[1]}
            for number, record in enumerate(records, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(records[0].classes, start=1)],
        "annotations": entries,
    }
    coco.createIndex()
    return coco
