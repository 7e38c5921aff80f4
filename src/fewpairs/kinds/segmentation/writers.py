"""Writers of masks in the geometry of their image. Every file is written completely or not at all."""

from __future__ import annotations

import colorsys
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewpairs.data.atomic import atomic_path
from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.readers import InputImage
from fewpairs.kinds.segmentation.rle import rle_encode
from fewpairs.kinds.segmentation.volumes import write_nifti_labels

MAX_INDEX = 255


def label_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Convert masks `[s k H W]` to label numbers `[s H W]`: 0 is background, 1 to k are the classes in order.

    Where classes overlap, the *last* one wins, as in training with exclusive classes.

    Raises:
        InputError: there are more than 255 classes.
    """
    classes = masks.shape[1]
    if classes > MAX_INDEX:
        raise InputError(f"{classes} classes do not fit into one label map, which holds at most {MAX_INDEX}")
    labels = np.zeros((masks.shape[0], *masks.shape[2:]), np.uint8)
    for j in range(classes):
        labels[masks[:, j]] = j + 1
    return labels


def write_masks(
    source: InputImage, masks: NDArray[np.bool_], folder: Path, classes: Sequence[str], *, separate: bool = False
) -> list[Path]:
    """Write the masks `[s k H W]` of `source` to `folder` and return the files.

    A NIfTI volume gives one label volume of the same name with its affine, spacing, axis order and shape; pictures give
    one palette PNG each. Both hold label numbers (see `label_map`). `separate` adds a file NAME_CLASS of 0 and 1 for
    every class, which keeps overlaps.

    Raises:
        InputError: masks and image differ in shape.
        DataError: a file cannot be written.
    """
    expected = (source.image.shape[0], len(classes), *source.size)
    if masks.shape != expected:
        raise InputError(f"masks of {source.id} have the shape {masks.shape} instead of {expected}")
    maps = [("", label_map(masks))]
    if separate:
        maps += [(f"_{name}", masks[:, j].astype(np.uint8)) for j, name in enumerate(classes)]
    written = []
    for suffix, labels in maps:
        if source.volume is not None:
            path = folder / f"{source.id}{suffix}.nii.gz"
            write_nifti_labels(path, labels, source.volume)
            written.append(path)
            continue
        for name, plane in zip(source.slice_ids, labels, strict=True):
            path = folder / f"{name}{suffix}.png"
            write_index_png(path, plane, len(classes))
            written.append(path)
    return written


def write_index_png(path: Path, labels: NDArray[np.unsignedinteger[Any]], classes: int) -> None:
    """Write label numbers `[H W]` as a palette PNG: its indices are the numbers, and each class has its own colour.

    Raises:
        DataError: the file cannot be written.
    """
    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    picture.putpalette(_palette(classes))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


SubmissionRow = tuple[str, tuple[str, ...]]
"""The id of a slice and the run-length encoded mask of each class."""


def submission_rows(slice_ids: Sequence[str], masks: NDArray[np.bool_]) -> tuple[SubmissionRow, ...]:
    """Encode masks `[s k H W]` at native size as one row for each slice."""
    return tuple((name, tuple(map(rle_encode, planes))) for name, planes in zip(slice_ids, masks, strict=True))


def write_submission(path: Path, rows: Iterable[SubmissionRow], classes: Sequence[str]) -> None:
    """Write rows of slices as a UW-Madison submission: `id,class,predicted`.

    Raises:
        InputError: a slice occurs twice, or the number of its masks is not that of the classes.
        DataError: the file cannot be written.
    """
    seen: set[str] = set()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "class", "predicted"])
        for name, masks in rows:
            if name in seen:
                raise InputError(f"slice {name} is predicted twice; a submission has each slice once")
            if len(masks) != len(classes):
                raise InputError(f"slice {name} has {len(masks)} masks for the {len(classes)} classes {list(classes)}")
            seen.add(name)
            table.writerows([name, label, runs] for label, runs in zip(classes, masks, strict=True))


def _palette(classes: int) -> list[int]:
    """Return black and one distinct colour for each class in Pillow's format: red, green, blue, red, ..."""
    colours = [0, 0, 0]
    for j in range(classes):
        rgb = colorsys.hsv_to_rgb((j * 0.618034) % 1.0, 0.75 if j % 2 else 0.95, 0.95)
        colours += [round(255 * part) for part in rgb]
    return colours
