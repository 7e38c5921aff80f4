"""A run's best, median and worst image for its report, with true and predicted objects side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from PIL import Image

from fewpairs.kinds.detection.dataset import DetectionItems
from fewpairs.kinds.detection.masks import decode_masks
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.kinds.detection.scores import detection_scores
from fewpairs.kinds.detection.writing import draw_detections
from fewpairs.kinds.kind import Built
from fewpairs.report import Overlay
from fewpairs.scoring.ranking import Rank, best_median_worst
from fewpairs.train.run_folder import Weights
from fewpairs.types import Detections

if TYPE_CHECKING:
    from fewpairs.kinds.detection.experiment import DetectionExperiment

_MOST_SCORED = 500
"""Largest number of images that are scored one by one, evenly spread over all."""


def show_images(
    experiment: DetectionExperiment,
    folder: Path,
    records: Sequence[DetectionRecord],
    *,
    weights: Weights,
    headline: str,
    chosen_by: Sequence[DetectionRecord],
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Show the best, median and worst image by the records `chosen_by`: true and predicted objects side by side."""
    shown = ranked_images(chosen_by, headline)
    if not shown:
        return ()
    built = experiment.build(progress=False) if built is None else built
    validation, classes = cast(DetectionItems, built.validation), built.task.classes
    found = {record.id: record for record in records}
    places = {record.id: place for place, record in enumerate(validation.records)}
    overlays = []
    for rank, (name, _) in shown.items():
        image, record = validation[places[name]].image, found[name]
        value = _score(record, headline)
        parts = [
            draw_detections(image, _truth(record), classes, scored=False),
            draw_detections(image, _found(record), classes),
        ]
        gap = torch.full((3, parts[0].shape[1], 8), 255, dtype=torch.uint8)
        pixels = torch.cat([parts[0], gap, parts[1]], dim=2).permute(1, 2, 0).contiguous().numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
        caption = f"{rank} image {name}: {headline} {value:.3f}; left: truth, right: found, scores of 0.5 and more"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)


def _truth(record: DetectionRecord) -> Detections:
    return _detections(record, record.boxes, (1.0,) * len(record.boxes), record.labels, record.masks)


def _found(record: DetectionRecord) -> Detections:
    return _detections(record, record.found_boxes, record.found_scores, record.found_labels, record.found_masks)


def _detections(
    record: DetectionRecord,
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    labels: Sequence[int],
    masks: Sequence[str] | None,
) -> Detections:
    outlines = None if masks is None else torch.from_numpy(decode_masks(masks, record.size))
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long(), outlines)


def _score(record: DetectionRecord, score: str, max_detections: int = 100) -> float:
    return detection_scores([record], max_detections=max_detections).get(score, math.nan)


def ranked_images(
    records: Sequence[DetectionRecord], score: str, *, max_detections: int = 100
) -> dict[Rank, tuple[str, float]]:
    """Return the best, the median and the worst image by its own score; fewer if there are fewer images.

    Images whose score is not defined are left out. Of very many images only a regular subset is scored.
    """
    scored = []
    for record in records[:: math.ceil(len(records) / _MOST_SCORED) or 1]:
        value = _score(record, score, max_detections)
        if not math.isnan(value):
            scored.append((value, record.id))
    return best_median_worst(sorted(scored, key=lambda pair: (-pair[0], pair[1])))
