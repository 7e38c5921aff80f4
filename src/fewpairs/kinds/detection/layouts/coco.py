"""COCO JSON: `annotations/instances_train2017.json` with the images in `train2017/`, and common variants of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fewpairs.data.description import Check
from fewpairs.data.files import listed
from fewpairs.data.split import Split
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.detection.annotation_issues import DetectionCheck
from fewpairs.kinds.detection.layouts.coco_files import (
    NAME,
    ROBOFLOW,
    categories_of,
    coco_files,
    is_text,
    is_whole,
    parse_coco,
    shown_value,
)
from fewpairs.kinds.detection.layouts.coco_objects import BadObjectError, read_object
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource
from fewpairs.kinds.detection.source_builder import RawImage, RawObject, build_source


@dataclass(frozen=True, slots=True)
class _Opened:
    """One JSON file, parsed."""

    path: Path
    part: str
    content: Mapping[str, Any]
    names: dict[int, str]
    """Class name of each category id."""


def open_coco(root: Path, options: DetectionOptions, split: Split, look: Check) -> DetectionSource:
    """Open a data set in COCO's layout.

    Raises:
        InputError: there are no such files.
        DataError: a file is not COCO JSON, or contradicts itself.
    """
    files = coco_files(root, options)
    if not files:
        raise InputError(
            f"{root} holds no COCO JSON (annotations/instances_*.json, instances_*.json or train/{ROBOFLOW}); name the "
            "files with train=, validation= and test="
        )
    check = DetectionCheck(str(root))
    opened = [
        _Opened(path, part, content := parse_coco(path), categories_of(path, content)) for part, path in files.items()
    ]
    for other in opened[1:]:
        if other.names != opened[0].names:
            raise DataError(
                f"{other.path} has the categories {_shown(other.names)}, but {opened[0].path} has "
                f"{_shown(opened[0].names)}; all parts must have the same ids and names"
            )
    ids = _chosen(opened[0].names, options)
    images: list[RawImage] = []
    for one in opened:
        images += _images(one, _image_folder(root, one, options), {number: i for i, number in enumerate(ids)}, check)
    classes = [opened[0].names[number] for number in ids]
    return build_source(
        str(root), root, images, classes, category_ids=ids, check=check, options=options, split=split, look=look
    )


def _chosen(names: Mapping[int, str], options: DetectionOptions) -> list[int]:
    """Return the category ids in the order of the labels."""
    if options.classes is None:
        return list(names)
    number = {name: key for key, name in names.items()}
    for name in options.classes:
        if name not in number:
            raise InputError(f"classes: the data set has no category {name!r}; {nearest(name, number)}")
    return [number[name] for name in options.classes]


def _images(one: _Opened, folder: str, label_of: Mapping[int, int], check: DetectionCheck) -> list[RawImage]:
    entries: dict[int, RawImage] = {}
    objects: dict[int, list[RawObject]] = {}
    file_names: set[str] = set()
    for place, entry in enumerate(one.content["images"], start=1):
        image = _image(entry, folder, one.part)
        if isinstance(image, str):
            check.add("bad-image", f"{one.path.name} image {place} {image}")
        elif image.number in entries:
            check.add("repeated-image", f"{one.path.name} image {place}: id {image.number} ({image.id})")
        elif image.id in file_names:
            check.add("repeated-image", f"{one.path.name} image {place}: file {image.id} (id {image.number})")
        else:
            entries[image.number] = image
            objects[image.number] = []
            file_names.add(image.id)
    seen: dict[int, Mapping[str, Any]] = {}
    for place, entry in enumerate(one.content["annotations"], start=1):
        where = f"{one.path.name} annotation {place}"
        if not isinstance(entry, dict):
            check.add("bad-object", f"{where} is not an object: {shown_value(entry)}")
            continue
        where += f" (id {shown_value(entry.get('id'))})"
        number, category = entry.get("image_id"), entry.get("category_id")
        if not is_whole(number) or number not in entries:
            check.add("missing-image", f"{where}: image {shown_value(number)}")
        elif not is_whole(category) or category not in one.names:
            check.add("unknown-class", f"{where}: category {shown_value(category)} in {entries[number].id}")
        elif category not in label_of:
            check.add("other-class", f"{where}: {one.names[category]} in {entries[number].id}")
        elif not _is_repeated(entry, seen, where, check):
            image = entries[number]
            try:
                found = read_object(entry, image.size or (0, 0), label_of[category], f"{image.id} {where}")
            except BadObjectError as error:
                check.add(error.kind, f"{where} in {image.id}: {error}")
                objects[number] += [error.kept] if error.kept is not None else []
            else:
                objects[number].append(found)
    return [
        RawImage(image.id, image.file, image.size, image.part, number, objects[number])
        for number, image in entries.items()
    ]


def _is_repeated(
    entry: Mapping[str, Any], seen: dict[int, Mapping[str, Any]], where: str, check: DetectionCheck
) -> bool:
    number = entry.get("id")
    if not isinstance(number, int):
        return False
    first = seen.setdefault(number, entry)
    if first is entry:
        return False
    same = first == entry
    check.add("repeated-object" if same else "repeated-id", where)
    return same


def _image(entry: object, folder: str, part: str) -> RawImage | str:
    """Read the image, or return the problem of its entry."""
    if not isinstance(entry, dict):
        return f"is not an object: {shown_value(entry)}"
    number, name = entry.get("id"), entry.get("file_name")
    height, width = entry.get("height"), entry.get("width")
    if not is_whole(number) or abs(number) >= 2**63:
        return f"has no whole number as id: {shown_value(number)}"
    if not is_text(name) or "\0" in name:
        return f"(id {number}) has no file_name: {shown_value(name)}"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return f"(id {number}) has a file_name outside of its folder: {shown_value(name)}"
    if not (is_whole(height) and is_whole(width) and 0 < height < 2**31 and 0 < width < 2**31):
        return f"(id {number}, {name}) has no height and width above 0: {shown_value(height)}, {shown_value(width)}"
    return RawImage(name, f"{folder}/{name}" if folder else name, (height, width), part, number, ())


def _image_folder(root: Path, one: _Opened, options: DetectionOptions) -> str:
    """Find the folder of a part's images, relative to the root: the first in which its first image lies."""
    match = NAME.fullmatch(one.path.name)
    part = "val" if one.part == "validation" else one.part  # the usual name of the folder
    tail = match["tail"] if match else part
    if options.images is not None:
        folder = options.images.replace("{part}", tail)
        if not (root / folder).is_dir():
            raise InputError(f"images={options.images!r}: {root / folder} is not a folder")
        return folder.strip("/") if folder != "." else ""
    beside = one.path.parent.relative_to(root).as_posix() if one.path.parent.is_relative_to(root) else "."
    candidates: list[str] = []
    for name in (tail, f"images/{tail}", part, f"images/{part}", "images", beside, "."):
        if name not in candidates and (root / name).is_dir():
            candidates.append(name)
    named = [
        entry["file_name"]
        for entry in one.content["images"][:20]
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
    ]
    best = max(candidates, key=lambda name: sum((root / name / file).is_file() for file in named))
    if named and not any((root / best / file).is_file() for file in named):
        raise InputError(
            f"{one.path}: its image {named[0]} lies in none of {', '.join(str(root / name) for name in candidates)}; "
            "name the folder of the images with images="
        )
    return "" if best == "." else best


def _shown(names: Mapping[int, str]) -> str:
    return listed([f"{number} {name}" for number, name in names.items()], 8)
