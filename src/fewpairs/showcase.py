"""Which pictures a report shows: the best, median and worst case or image, or the surest mistakes of a classifier."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from fewpairs.data import ScanDataset
from fewpairs.data.classification import LabelledChunks
from fewpairs.data.detection import PictureItems
from fewpairs.data.detection.writing import draw_detections
from fewpairs.data.semantic import Scenes
from fewpairs.experiment import (
    Built,
    ClassificationExperiment,
    DetectionExperiment,
    Experiment,
    SegmentationExperiment,
    SemanticExperiment,
    Weights,
    weights_file,
)
from fewpairs.metrics import (
    ImageRecord,
    ScanStatistics,
    SceneRecord,
    confident_mistakes,
)
from fewpairs.metrics.coco_masks import decode_masks
from fewpairs.metrics.detection_records import PictureRecord
from fewpairs.metrics.showing import ranked_cases, ranked_pictures, ranked_scenes
from fewpairs.report import Overlay
from fewpairs.report.label_maps import label_strip
from fewpairs.report.mistakes import mistakes_sheet
from fewpairs.report.overlay import overlay_strip
from fewpairs.train import load_weights
from fewpairs.types import Detections

MISTAKES = 24
"""Wrong predictions that a report shows."""


@singledispatch
def showcase(
    experiment: Experiment,
    folder: Path,
    records: Sequence[Any],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Pictures of what a run got right and wrong, as its kind of experiment has them; none where it has none."""
    return ()


@showcase.register
def show_cases(
    experiment: SegmentationExperiment,
    folder: Path,
    records: Sequence[ScanStatistics],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """A run's best, median and worst case: image, truth, prediction and errors in one row."""
    built = experiment.build(progress=False) if built is None else built
    load_weights(weights_file(folder, weights), built.model)
    built.model.cpu().eval()
    validation = cast(ScanDataset, built.validation)
    overlays = []
    for rank, (case, value) in ranked_cases(records, headline, built.task.rule).items():
        scan = next(scan for scan in validation if scan.case == case)
        fullest = int(scan.mask.flatten(1).sum(1).argmax())
        with torch.no_grad():
            logits = built.model(scan.image[fullest : fullest + 1])
        predicted = built.task.masks(logits, scan.geometry)[0]
        middle = scan.image[fullest, scan.image.shape[1] // 2]
        native = scan.geometry.invert(middle[None, None])[0, 0]
        picture = overlay_strip(
            native.numpy(), scan.mask[fullest].numpy(), predicted.numpy(), built.task.classes, title=""
        )
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        caption = f"{rank} case {case}: {headline} {value:.3f}; {scan.slice_ids[fullest]}"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)


@showcase.register
def show_mistakes(
    experiment: ClassificationExperiment,
    folder: Path,
    records: Sequence[ImageRecord],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """The wrong predictions of which a run was surest, on one sheet; nothing where none was wrong."""
    wrong = confident_mistakes(records, MISTAKES)
    if not wrong:
        return ()
    built = experiment.build(progress=False) if built is None else built
    validation, classes = cast(LabelledChunks, built.validation), built.task.classes
    source = validation.source
    places = {source.id(int(number)): int(number) for number in validation.indices}
    sheet = mistakes_sheet(
        [np.asarray(source.read(places[record.id])) for record in wrong],
        [classes[record.label] for record in wrong],
        [classes[record.predicted] for record in wrong],
        [record.confidence or 0.0 for record in wrong],
    )
    right = sum(record.right for record in records)
    caption = f"mistakes: the {len(wrong)} surest of {len(records) - right} among {len(records)} images"
    return (Overlay(rank="mistakes", caption=caption, png=sheet),)


@showcase.register
def show_objects(
    experiment: DetectionExperiment,
    folder: Path,
    records: Sequence[PictureRecord],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """A run's best, median and worst image, the objects that are there beside those that were found."""
    shown = ranked_pictures(records, headline)
    if not shown:
        return ()
    built = experiment.build(progress=False) if built is None else built
    validation, classes = cast(PictureItems, built.validation), built.task.classes
    found = {record.id: record for record in records}
    places = {record.id: place for place, record in enumerate(validation.records)}
    overlays = []
    for rank, (name, value) in shown.items():
        image, record = validation[places[name]].image, found[name]
        gap = torch.full((3, image.shape[-2], 8), 255, dtype=torch.uint8)
        parts = [
            draw_detections(image, _truth(record), classes, scored=False),
            draw_detections(image, _found(record), classes),
        ]
        pixels = torch.cat([parts[0], gap, parts[1]], dim=2).permute(1, 2, 0).contiguous().numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
        caption = f"{rank} image {name}: {headline} {value:.3f}; left: truth, right: found, scores of 0.5 and more"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)


def _truth(record: PictureRecord) -> Detections:
    return _detections(record, record.boxes, (1.0,) * len(record.boxes), record.labels, record.masks)


def _found(record: PictureRecord) -> Detections:
    return _detections(record, record.found_boxes, record.found_scores, record.found_labels, record.found_masks)


def _detections(
    record: PictureRecord,
    boxes: Sequence[Sequence[float]],
    scores: Sequence[float],
    labels: Sequence[int],
    masks: Sequence[str] | None,
) -> Detections:
    outlines = None if masks is None else torch.from_numpy(decode_masks(masks, record.size))
    return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long(), outlines)


@showcase.register
def show_scenes(
    experiment: SemanticExperiment,
    folder: Path,
    records: Sequence[SceneRecord],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """A run's best, median and worst image: photograph, truth, prediction and errors in one row."""
    shown = ranked_scenes(records, headline)
    if not shown:
        return ()
    built = experiment.build(progress=False) if built is None else built
    load_weights(weights_file(folder, weights), built.model)
    model = experiment.judged(built.model).cpu().eval()
    validation = cast(Scenes, built.validation)
    places = {files.id: place for place, files in enumerate(validation.files)}
    overlays = []
    for rank, (name, value) in shown.items():
        scene = validation[places[name]]
        picture, _ = validation.source.read(validation.files[places[name]])
        with torch.no_grad():
            found = built.task.predict(model(scene.image), scene)[0]
        strip = label_strip(
            np.asarray(picture), scene.label.numpy(), found.numpy(), built.task.classes, validation.source.colours
        )
        buffer = io.BytesIO()
        strip.save(buffer, format="PNG", optimize=True)
        caption = f"{rank} image {name}: {headline} {value:.3f} of its own pixels"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)
