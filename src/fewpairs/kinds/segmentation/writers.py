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

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.readers import InputImage
from fewpairs.kinds.segmentation.rle import rle_encode
from fewpairs.kinds.segmentation.volumes import write_nifti_labels
from fewpairs.safe_text import csv_cell, file_name, file_names
from fewpairs.writing import atomic_path

MAX_INDEX = 255


def label_map(masks: NDArray[np.bool_], numbers: Sequence[int] | None = None) -> NDArray[np.unsignedinteger[Any]]:
    """Convert masks `[s k H W]` to labels `[s H W]`: 0 is background, the classes have `numbers`, or else 1 to k.

    Where classes overlap, the *last* one wins, as in training with exclusive classes. Labels are 8-bit, or 16-bit if a
    number needs it.

    Raises:
        InputError: there are more than 255 classes.
    """
    classes = masks.shape[1]
    if classes > MAX_INDEX:
        raise InputError(f"{classes} classes do not fit into one label map, which holds at most {MAX_INDEX}")
    numbers = numbers or range(1, classes + 1)
    wide = max(numbers, default=0) > MAX_INDEX
    labels = np.zeros((masks.shape[0], *masks.shape[2:]), np.uint16 if wide else np.uint8)
    for j, number in enumerate(numbers):
        labels[masks[:, j]] = number
    return labels


def write_masks(
    source: InputImage,
    masks: NDArray[np.bool_],
    folder: Path,
    classes: Sequence[str],
    *,
    separate: bool = False,
    numbers: Sequence[int] | None = None,
) -> list[Path]:
    """Write the masks `[s k H W]` of `source` to `folder` and return the files.

    A NIfTI volume gives one label volume of the same name with its affine, spacing, axis order and shape; pictures give
    one palette PNG each. Both hold the `numbers` of classes (see `label_map`). `separate` adds a file NAME_CLASS of
    0 and 1 for every class, which keeps overlaps. Names become safe by `safe_text.file_name`.

    Raises:
        InputError: masks and image differ in shape.
        DataError: a file cannot be written.
    """
    expected = (source.image.shape[0], len(classes), *source.size)
    if masks.shape != expected:
        raise InputError(f"masks of {source.id} have the shape {masks.shape} instead of {expected}")
    numbers = tuple(numbers or range(1, len(classes) + 1))
    maps: list[tuple[str, NDArray[np.unsignedinteger[Any]]]] = [("", label_map(masks, numbers))]
    if separate:
        maps += [(suffix, masks[:, j].astype(np.uint8)) for j, suffix in enumerate(class_suffixes(classes))]
    written = []
    for suffix, labels in maps:
        if source.volume is not None:
            path = folder / file_name(f"{source.id}{suffix}", ".nii.gz")
            write_nifti_labels(path, labels, source.volume)
            written.append(path)
            continue
        for name, plane in zip(source.slice_ids, labels, strict=True):
            path = folder / file_name(f"{name}{suffix}", ".png")
            write_index_png(path, plane, (1,) if suffix else numbers)
            written.append(path)
    return written


def class_suffixes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return what `separate` adds to the name of a file for each class: `_NAME`, safe and unique."""
    return tuple(f"_{name}" for name in file_names(classes))


def write_index_png(path: Path, labels: NDArray[np.unsignedinteger[Any]], numbers: Sequence[int]) -> None:
    """Write labels `[H W]` as a palette PNG: its indices are the labels, and each of `numbers` has its own colour.

    Labels above 255 become a grey PNG of 16 bits.

    Raises:
        DataError: the file cannot be written.
    """
    picture = Image.fromarray(np.ascontiguousarray(labels))
    if labels.dtype == np.uint8:
        picture.putpalette(_palette(numbers))
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
            table.writerows([csv_cell(name), csv_cell(label), runs] for label, runs in zip(classes, masks, strict=True))


def _palette(numbers: Sequence[int]) -> list[int]:
    """Return black and one distinct colour for each number in Pillow's format: red, green, blue, red, ..."""
    colours = [0] * (3 * (max(numbers) + 1))
    for j, number in enumerate(numbers):
        rgb = colorsys.hsv_to_rgb((j * 0.618034) % 1.0, 0.75 if j % 2 else 0.95, 0.95)
        colours[3 * number : 3 * number + 3] = [round(255 * part) for part in rgb]
    return colours
