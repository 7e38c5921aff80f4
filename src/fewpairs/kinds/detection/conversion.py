"""One layout into another: any detection data set as COCO JSON, or as Pascal VOC XML, with its images."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args
from xml.etree import ElementTree as ET

from fewpairs.data.atomic import atomic_path
from fewpairs.data.images import stored_channels
from fewpairs.data.progress import track
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.detection.layouts.voc import ANNOTATIONS, IMAGES, LISTS
from fewpairs.kinds.detection.masks import as_rle
from fewpairs.kinds.detection.source import DetectionRecord, DetectionSource

Target = Literal["coco", "voc"]
Transfer = Literal["copy", "link"]


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and what could not travel, in sentences."""

    folder: Path
    images: int
    objects: int
    lost: tuple[str, ...]


def convert(
    source: DetectionSource,
    folder: Path | str,
    target: str,
    *,
    images: str = "copy",
    overwrite: bool = False,
    progress: bool = False,
) -> Converted:
    """Write `source` to `folder` as `coco` or `voc`, each image beside its annotations.

    COCO keeps everything that a source knows. VOC has no masks, no areas, no crowds and no image ids: crowds become
    `difficult`, the rest is lost, and `Converted.lost` says so.

    Args:
        images: `copy` the image files, or make symbolic `link`s to them.
        overwrite: replace files that are there; without it a folder that holds anything is refused.

    Raises:
        InputError: an unknown layout, a folder that is not empty, or the source's own folder.
        DataError: something cannot be written.
    """
    folder = Path(folder)
    if target not in get_args(Target):
        raise InputError(f"unknown layout {target!r} to convert to; {nearest(target, get_args(Target))}")
    if images not in get_args(Transfer):
        raise InputError(f"images={images!r}: allowed are {', '.join(get_args(Transfer))}")
    if folder.resolve() == source.root.resolve():
        raise InputError(f"{folder} is the data set itself; convert it into another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; give another folder, or --overwrite to replace files in it")
    write = _to_coco if target == "coco" else _to_voc
    lost = write(source, folder, images, progress)
    return Converted(folder, len(source), len(source.table.labels), lost)


def _to_coco(source: DetectionSource, folder: Path, images: str, progress: bool) -> tuple[str, ...]:
    categories = [
        {"id": number, "name": name} for name, number in zip(source.classes, source.category_ids, strict=True)
    ]
    objects = 0
    for part in source.parts:
        records = source.part(part)
        numbers = [record.number for record in records]
        if len(set(numbers)) < len(numbers):
            numbers = list(range(1, len(records) + 1))
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, record in zip(numbers, track(records, f"writing {part}", enabled=progress), strict=True):
            _transfer(record.file, folder / part / record.id, images)
            height, width = record.size
            entries.append({"id": number, "file_name": record.id, "height": height, "width": width})
            for one in _coco_objects(record, source.category_ids):
                objects += 1
                annotations.append({"id": objects, "image_id": number, **one})
        content = {"info": {}, "licenses": [], "images": entries, "annotations": annotations, "categories": categories}
        with atomic_path(folder / "annotations" / f"instances_{part}.json") as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return ()


def _coco_objects(record: DetectionRecord, categories: Sequence[int]) -> Iterator[dict[str, Any]]:
    objects = record.objects()
    runs = record.runs() if record.has_masks else None
    for place, (left, top, right, bottom) in enumerate(objects.boxes.double().tolist()):
        one: dict[str, Any] = {
            "category_id": categories[int(objects.labels[place])],
            "bbox": [left, top, right - left, bottom - top],
            "area": float(objects.area[place]),
            "iscrowd": int(objects.crowd[place]),
        }
        if runs is not None:
            one["segmentation"] = as_rle(runs[place], record.size)
        yield one


def _to_voc(source: DetectionSource, folder: Path, images: str, progress: bool) -> tuple[str, ...]:
    odd = [name for name in source.classes if name != name.strip() or not name.isprintable()]
    if odd:
        raise InputError(f"classes that XML cannot hold as they are: {', '.join(map(repr, odd))}; rename them")
    names = _voc_names(source)
    for part in source.parts:
        records = source.part(part)
        listed: list[str] = []
        for record in track(records, f"writing {part}", enabled=progress):
            name = names[part, record.id]
            file = f"{name}{PurePosixPath(record.id).suffix}"
            _transfer(record.file, folder / IMAGES / file, images)
            with atomic_path(folder / ANNOTATIONS / f"{name}.xml") as temporary:
                temporary.write_text(voc_xml(record, file, source.classes), encoding="utf-8")
            listed.append(name)
        with atomic_path(folder / LISTS / f"{part}.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
    lost: list[str] = []
    table = source.table
    if table.masks is not None:
        lost.append(f"the masks of {len(table.labels)} objects: Pascal VOC's XML has boxes alone")
    if table.crowd.any():
        lost.append(f"{int(table.crowd.sum())} crowds are written as difficult objects")
    own = (table.boxes[:, 2] - table.boxes[:, 0]) * (table.boxes[:, 3] - table.boxes[:, 1])
    other = int((abs(own - table.area) > 1e-3 * own + 1e-3).sum())
    if other:
        lost.append(f"the areas of {other} objects that differ from those of their boxes")
    absent = [name for label, name in enumerate(source.classes) if not (table.labels == label).any()]
    if absent:
        lost.append(f"classes without an object, which VOC does not list: {', '.join(absent)}")
    return tuple(lost)


def voc_xml(record: DetectionRecord, file: str, classes: Sequence[str]) -> str:
    """The annotation of one image; coordinates are edges from 0 (`first_pixel=0`), with decimals where needed."""
    tree = ET.Element("annotation")
    ET.SubElement(tree, "folder").text = IMAGES
    ET.SubElement(tree, "filename").text = file
    size = ET.SubElement(tree, "size")
    for side, value in (("width", record.size[1]), ("height", record.size[0]), ("depth", stored_channels(record.file))):
        ET.SubElement(size, side).text = str(value)
    ET.SubElement(tree, "segmented").text = "0"
    objects = record.objects()
    for place, box in enumerate(objects.boxes.double().tolist()):
        one = ET.SubElement(tree, "object")
        for tag, text in (("name", classes[int(objects.labels[place])]), ("pose", "Unspecified"), ("truncated", "0")):
            ET.SubElement(one, tag).text = text
        ET.SubElement(one, "difficult").text = str(int(objects.crowd[place]))
        edges = ET.SubElement(one, "bndbox")
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ET.SubElement(edges, edge).text = str(int(value)) if value == int(value) else repr(value)
    ET.indent(tree, "\t")
    return ET.tostring(tree, encoding="unicode") + "\n"


def _voc_names(source: DetectionSource) -> dict[tuple[str, str], str]:
    """The stem of each image in the one folder that VOC has: folders become `_`, the part goes before repeated ones."""
    plain = {
        (part, record.id): re.sub(r"[\s/]", "_", str(PurePosixPath(record.id).with_suffix("")))
        for part in source.parts
        for record in source.part(part)
    }
    if len(set(plain.values())) == len(plain):
        return plain
    named = {key: f"{key[0]}_{name}" for key, name in plain.items()}
    if len(set(named.values())) < len(named):
        named = {key: f"{name}_{number}" for number, (key, name) in enumerate(named.items(), start=1)}
    return named


def _transfer(file: Path, to: Path, images: str) -> None:
    if os.path.lexists(to) and to.resolve() == file.resolve() and not to.is_symlink():
        return
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if images == "link":
            to.unlink(missing_ok=True)
            to.symlink_to(file.resolve())
            return
    except OSError as error:
        raise DataError(f"cannot write {to}: {error.strerror or error}") from error
    with atomic_path(to) as temporary:
        shutil.copyfile(file, temporary)
