"""One number for each object: `images/ID.png`, `masks/ID.png` with 0 for background, parts in `index.csv`."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latchkey.data.classification.folder import is_image
from latchkey.data.detection.findings import DetectionCheck
from latchkey.data.detection.gathering import RawImage, RawObject, gather
from latchkey.data.detection.options import DetectionOptions
from latchkey.data.detection.source import PARTS, DetectionSource
from latchkey.data.pictures import LOSSLESS, read_indices
from latchkey.errors import DataError, InputError
from latchkey.metrics.coco_masks import encode_masks

IMAGES, MASKS, INDEX = "images", "masks", "index.csv"
_CLASSES = ("nucleus",)
_PART_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_THREADS = 2


def open_label_maps(root: Path, options: DetectionOptions) -> DetectionSource:
    """A data set of one class whose masks are label maps: every number above 0 is one object.

    Raises:
        InputError: a folder does not exist, or more than one class is named.
        DataError: files contradict one another.
    """
    classes = options.classes or _CLASSES
    if len(classes) != 1:
        raise InputError(
            f"classes={list(classes)}: the numbers of a label map tell objects apart, of one class; name one"
        )
    folder, maps = root / (options.images or IMAGES), root / (options.annotations or MASKS)
    for path, option in ((folder, "images"), (maps, "annotations")):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; name it with {option}=")
    check = DetectionCheck(str(root))
    images = {Path(name).stem: name for name in sorted(os.listdir(folder)) if is_image(name)}
    masks = {Path(name).stem: name for name in sorted(os.listdir(maps)) if name.lower().endswith(LOSSLESS)}
    if not images:
        raise DataError(f"{folder} holds no images")
    parts = _parts(root / INDEX, images, options, check)
    order = [name for name in sorted(parts) if name in masks]
    for name in sorted(set(parts) - set(masks)):
        check.add("missing-annotation", name)

    def read(name: str) -> NDArray[Any] | str:
        try:
            return _label_map(maps / masks[name])
        except DataError as error:
            return str(error)

    raw: list[RawImage] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, found in zip(order, pool.map(read, order), strict=True):
            if isinstance(found, str):
                check.add("unreadable", found)
                continue
            file = f"{folder.relative_to(root).as_posix()}/{images.get(name, name + '.png')}"
            size = (found.shape[0], found.shape[1])
            objects = objects_of(found, images.get(name, name))
            raw.append(RawImage(images.get(name, name), file, size, parts[name], len(raw) + 1, objects))
    return gather(str(root), root, raw, classes, check=check, options=options)


def objects_of(labels: NDArray[Any], place: str) -> list[RawObject]:
    """Label map `[H W]` -> one object for each number above 0, in rising order, with mask, box and area."""
    numbers, where = np.unique(labels, return_inverse=True)
    where = where.reshape(labels.shape)
    objects: list[RawObject] = []
    for index, number in enumerate(numbers.tolist()):
        if number == 0:
            continue
        mask = where == index
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
        objects.append(
            RawObject(box, 0, f"{place} number {number}", float(mask.sum()), mask=encode_masks(mask[None])[0])
        )
    return objects


def _label_map(path: Path) -> NDArray[Any]:
    labels = read_indices(path)
    if labels.dtype.kind == "f" or labels.min() < 0:
        raise DataError(f"{path} holds numbers of type {labels.dtype}, some below 0 or not whole; it is no label map")
    return labels


def _parts(index: Path, images: Mapping[str, str], options: DetectionOptions, check: DetectionCheck) -> dict[str, str]:
    """The part of each image: the column `split` of the index where there is one, else training."""
    rows = _rows(index) if index.is_file() else []
    if not rows or "split" not in rows[0] or "id" not in rows[0]:
        return dict.fromkeys(images, "train")
    meant = {value: part for part in PARTS if (value := getattr(options, part)) is not None} or _PART_OF
    parts: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, value = row["id"], row["split"]
        if name in parts:
            check.add("repeated-image", f"{index.name} line {number}: {name}")
        elif value in meant:
            parts[name] = meant[value]
        else:
            check.add("bad-image", f"{index.name} line {number}: split {value!r} is none of {', '.join(meant)}")
    for name in sorted(set(images) - {row["id"] for row in rows}):
        check.add("unlisted", name)
    return parts


def _rows(index: Path) -> list[dict[str, str]]:
    try:
        with index.open(encoding="utf-8", newline="") as file:
            return [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index} cannot be read as CSV ({error})") from None
