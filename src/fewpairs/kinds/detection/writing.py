"""Writers of detections: COCO results, label maps of objects, and images with boxes."""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.detection.masks import as_rle, encode_masks
from fewpairs.models.large_images import is_large
from fewpairs.safe_text import one_line
from fewpairs.types import Detections, Size
from fewpairs.writing import atomic_path

_MOST = 65535
"""Largest number of objects in a 16-bit label map."""
_LONG_SIDE = 2048
"""Largest side of a large image with boxes, in pixels."""
_STRENGTH = 0.4
"""Share of a mask's colour in the colour of a pixel."""
_TURN = 0.61803398875
"""Distance between the hues of consecutive classes, as a fraction of the colour circle."""


def coco_results(
    image: int | str, found: Detections, classes: Sequence[str], category_of: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Convert the detections of one image to COCO results: box as x, y, width, height, and the mask in packed runs.

    pycocotools takes the area of a detection from its box if it has one, even when it scores masks; to score masks with
    their own areas, as here, remove `bbox` first.

    Args:
        image: COCO's image id, or the file name if there is none.
        category_of: the category id of each class.

    Raises:
        InputError: a class has no category id.
    """
    if missing := sorted(set(classes) - set(category_of)):
        raise InputError(f"classes without a category id: {', '.join(missing)}; give category_of for all of them")
    boxes, scores, labels = (part.detach().cpu().double() for part in (found.boxes, found.scores, found.labels))
    runs = None if found.masks is None else encode_masks(mask.cpu().numpy() for mask in found.masks)
    results: list[dict[str, Any]] = []
    for place, (left, top, right, bottom) in enumerate(boxes.tolist()):
        one: dict[str, Any] = {
            "image_id": image,
            "category_id": category_of[classes[int(labels[place])]],
            "bbox": [left, top, max(right - left, 0.0), max(bottom - top, 0.0)],
            "score": float(scores[place]),
        }
        if runs is not None and found.masks is not None:
            one["segmentation"] = as_rle(runs[place], (found.masks.shape[1], found.masks.shape[2]))
        results.append(one)
    return results


def write_results(results: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write COCO results as a JSON list with one detection in each line, completely or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for place, one in enumerate(results):
            file.write(",\n" if place else "\n")
            json.dump(one, file, allow_nan=False)
        file.write("\n]\n")


def label_map(found: Detections, size: Size, *, threshold: float = 0.5) -> NDArray[np.uint16]:
    """Number the objects in a map `[H W]` from 1 by decreasing score; 0 is background.

    Where masks overlap, the higher score wins. The number of an object that others cover completely does not occur.

    Args:
        threshold: detections with a lower score are left out.

    Raises:
        InputError: detections have no masks, or there are more than 16 bits can number.
    """
    if found.masks is None:
        raise InputError("a label map needs masks, but the detector predicts boxes alone; use mask_rcnn")
    kept = torch.nonzero(found.scores >= threshold)[:, 0]
    if len(kept) > _MOST:
        raise InputError(f"{len(kept)} objects do not fit into a 16-bit label map, which holds at most {_MOST}")
    kept = kept[torch.sort(found.scores[kept], descending=True, stable=True).indices]
    labels = np.zeros(size, np.uint16)
    for number, place in reversed(list(enumerate(kept.tolist(), start=1))):
        labels[found.masks[place].cpu().numpy().astype(bool, copy=False)] = number
    return labels


def write_label_map(labels: NDArray[np.uint16], path: Path) -> None:
    """Write a label map as a 16-bit grey PNG.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(np.asarray(labels, np.uint16)).save(temporary, format="PNG")


def draw_detections(
    image: Tensor,
    found: Detections,
    classes: Sequence[str],
    *,
    threshold: float = 0.5,
    scored: bool = True,
    width: int | None = None,
) -> Tensor:
    """Draw boxes, masks, class names and scores on an image; the result is `[3 H W]` uint8.

    A large image is thinned to at most 2,048 pixels a side. Pixels of several masks are dark, as torchvision's.

    Args:
        image: `[c H W]` or `[1 c H W]`, uint8 or float in 0..1.
        threshold: detections with a lower score are left out.
        scored: whether scores are written beside the names; use False for the truth.
        width: line width in pixels; None uses 1 for each 300 pixels of the shorter side.
    """
    from torchvision.utils import draw_bounding_boxes

    picture = image[0] if image.ndim == 4 else image
    size = picture.shape[-2], picture.shape[-1]
    thinned = math.ceil(max(size) / _LONG_SIDE) if is_large(size) else 1
    picture = picture[:, ::thinned, ::thinned]
    if picture.is_floating_point():
        picture = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    picture = picture.cpu().expand(3, -1, -1).contiguous()
    kept = torch.nonzero(found.scores.cpu() >= threshold)[:, 0].flip(0)  # the best is drawn last, on top
    if not len(kept):
        return picture
    scores, labels = found.scores.cpu()[kept], found.labels.cpu()[kept].tolist()
    boxes = found.boxes.cpu()[kept] / thinned
    colours = [colour(label) for label in labels]
    if found.masks is not None:
        masks = (found.masks[place][::thinned, ::thinned].cpu().bool() for place in kept.tolist())
        picture = _with_masks(picture, masks, colours)
    told = [f" {score:.2f}" if scored else "" for score in scores.tolist()]
    names = [f"{one_line(classes[label])}{score}" for label, score in zip(labels, told, strict=True)]
    boxes = torch.stack(
        [boxes[:, 0], boxes[:, 1], torch.maximum(boxes[:, 2], boxes[:, 0]), torch.maximum(boxes[:, 3], boxes[:, 1])], 1
    )
    line = width or max(1, round(min(picture.shape[1:]) / 300))
    drawn: Tensor = draw_bounding_boxes(picture, boxes, labels=names, colors=colours, width=line)
    return drawn


def _with_masks(picture: Tensor, masks: Iterable[Tensor], colours: Sequence[tuple[int, int, int]]) -> Tensor:
    """Draw what torchvision's `draw_segmentation_masks` draws, without holding all masks."""
    coloured = picture.clone()
    once = torch.zeros(picture.shape[1:], dtype=torch.bool)
    several = once.clone()
    for mask, paint in zip(masks, colours, strict=True):
        coloured[:, mask] = torch.tensor(paint, dtype=torch.uint8)[:, None]
        several |= once & mask
        once |= mask
    coloured[:, several] = 0
    return (picture * (1 - _STRENGTH) + coloured * _STRENGTH).to(torch.uint8)


def write_picture(picture: Tensor, path: Path) -> None:
    """Write an image `[3 H W]` uint8 as PNG or JPEG, depending on the suffix.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(temporary)


def colour(label: int) -> tuple[int, int, int]:
    """Return a bright colour for a class, different from those of neighbouring classes."""
    red, green, blue = colorsys.hsv_to_rgb(label * _TURN % 1.0, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
