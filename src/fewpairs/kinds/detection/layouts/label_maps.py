"""Masks that number their objects: `images/ID.png`, `masks/ID.png` with 0 for background, parts in `index.csv`."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.description import Check
from fewpairs.data.files import files_by_stem, listed, other_files, visible_files
from fewpairs.data.pictures import SUFFIXES, mask_files, read_indices
from fewpairs.data.split import PARTS, Split, part_of
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.detection.annotation_issues import DetectionCheck
from fewpairs.kinds.detection.masks import from_runs
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource
from fewpairs.kinds.detection.source_builder import RawImage, RawObject, build_source

IMAGES, MASKS, INDEX = "images", "masks", "index.csv"
_CLASSES = ("nucleus",)
_THREADS = 2
_TABLE = 2**20
"""Object numbers below this are counted in a table."""


def open_label_maps(root: Path, options: DetectionOptions, split: Split, look: Check) -> DetectionSource:
    """Open a data set of one class whose masks are label maps: every number above 0 is one object.

    Raises:
        InputError: a folder does not exist, or more than one class is named.
        DataError: files contradict one another.
    """
    classes = options.classes or _CLASSES
    if len(classes) != 1:
        raise InputError(f"classes={list(classes)}: label maps number the objects of a single class; name one class")
    folder, maps = root / (options.images or IMAGES), root / (options.annotations or MASKS)
    for path, option in ((folder, "images"), (maps, "annotations")):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; name it with {option}=")
    from scipy.ndimage import label

    check = DetectionCheck(str(root))
    images = {stem: path.name for stem, path in files_by_stem(visible_files(folder, SUFFIXES)).items()}
    masks = mask_files(maps)
    for path in (*other_files(folder, SUFFIXES), *other_files(maps, SUFFIXES)):
        check.add("other-file", path.relative_to(root).as_posix())
    if not images:
        raise DataError(f"{folder} holds no images")
    parts = _parts(root / INDEX, images, options, check)
    order = [name for name in sorted(parts) if name in masks]
    for name in sorted(set(parts) - set(masks)):
        check.add("missing-annotation", name)

    def read(name: str) -> NDArray[Any] | str:
        try:
            return _label_map(masks[name])
        except DataError as error:
            return str(error)

    raw: list[RawImage] = []
    numbers: set[int] = set()
    scattered: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, found in zip(order, pool.map(read, order), strict=True):
            if isinstance(found, str):
                check.add("unreadable", found)
                continue
            file = f"{folder.relative_to(root).as_posix()}/{images.get(name, name + '.png')}"
            size = (found.shape[0], found.shape[1])
            objects = objects_of(found, images.get(name, name))
            raw.append(RawImage(images.get(name, name), file, size, parts[name], len(raw) + 1, objects))
            if len(numbers) < 2:  # else the maps do number their objects
                numbers |= set(np.unique(found[found > 0]).tolist())
                scattered += [masks[name].name] if label(found, np.ones((3, 3)))[1] > 1 else []
    if len(numbers) == 1 and scattered:
        places = f"the number {numbers.pop()} in all, with objects apart from each other in {listed(scattered, 3)}"
        check.add("one-number", f"{places}; number each object, or segment pixels instead (kind: semantic)")
    return build_source(str(root), root, raw, classes, check=check, options=options, split=split, look=look)


def objects_of(labels: NDArray[Any], place: str) -> list[RawObject]:
    """Make an object with mask, box and area for each number above 0 in a label map `[H W]`, in ascending order."""
    from scipy.ndimage import find_objects

    numbers, places = _numbered(labels)
    size = (labels.shape[0], labels.shape[1])
    objects: list[RawObject] = []
    for number, window, runs in zip(numbers, find_objects(places), _runs(places), strict=True):
        rows, columns = window
        box = float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)
        area = float(sum(runs[1::2]))
        objects.append(RawObject(box, 0, f"{place} number {number}", area, mask=from_runs(runs, size)))
    return objects


def _numbered(labels: NDArray[Any]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the numbers above 0 in ascending order, and the map `[H W]` with 1, 2, ... in their place."""
    if labels.max() < _TABLE:
        there = np.bincount(labels.ravel()) > 0
        there[0] = True
        return np.flatnonzero(there)[1:].tolist(), (np.cumsum(there) - 1)[labels]
    numbers, where = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    return numbers[1:].tolist(), where[:-1].reshape(labels.shape)


def _runs(places: NDArray[Any]) -> Iterator[list[int]]:
    """Yield the run lengths of 0 and 1 down the columns for each number from 1 on; all of them must occur."""
    flat = places.T.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    ends = np.append(starts[1:], len(flat))
    order = np.argsort(flat[starts], kind="stable")
    limits = np.searchsorted(flat[starts][order], np.arange(1, int(places.max()) + 2))
    for first, last in itertools.pairwise(limits.tolist()):
        mine = order[first:last]
        edges = np.stack([starts[mine], ends[mine]], axis=1).ravel()
        runs = np.diff(edges, prepend=0, append=len(flat)).tolist()
        yield runs if runs[-1] else runs[:-1]


def _label_map(path: Path) -> NDArray[Any]:
    labels = read_indices(path)
    if labels.dtype.kind == "f" or labels.min() < 0:
        raise DataError(f"{path} holds numbers of type {labels.dtype}, negative or not whole; it is not a label map")
    return labels


def _parts(index: Path, images: Mapping[str, str], options: DetectionOptions, check: DetectionCheck) -> dict[str, str]:
    """Return the part of each image: the column `split` of the index if there is one, otherwise training."""
    rows = _rows(index) if index.is_file() else []
    if not rows or "split" not in rows[0] or "id" not in rows[0]:
        return dict.fromkeys(images, "train")
    named = {value: part for part in PARTS if (value := getattr(options, part)) is not None}
    parts: dict[str, str] = {}
    listed_ids: set[str] = set()
    for number, row in enumerate(rows, start=2):
        name, value = row["id"] if row["id"] in images else row["id"].strip(), row["split"]
        part = named.get(value) if named else part_of(value)
        listed_ids.add(name)
        if name in parts:
            check.add("repeated-image", f"{index.name} line {number}: {name}")
        elif part is not None:
            parts[name] = part
        elif named:
            check.add("unlisted", f"{name} ({value})")
        else:
            check.add("bad-image", f"{index.name} line {number}: split {value!r} is none of train, val, test")
    for name in sorted(set(images) - listed_ids):
        check.add("unlisted", name)
    return parts


def _rows(index: Path) -> list[dict[str, str]]:
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            return [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index} cannot be read as CSV ({error})") from None
