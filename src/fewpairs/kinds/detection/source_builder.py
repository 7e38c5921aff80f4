"""Builds a source from the images and objects of any layout, after the checks that all layouts share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewpairs.data.description import Check
from fewpairs.data.names import Names
from fewpairs.data.pictures import Header, check_file, turned_hint
from fewpairs.data.split import PARTS, Split
from fewpairs.errors import DataError
from fewpairs.kinds.detection.annotation_issues import DetectionCheck
from fewpairs.kinds.detection.masks import mask_areas
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource, ImageTable, ObjectTable
from fewpairs.types import Size

Box = tuple[float, float, float, float]

_BEYOND = 0.01
"""Rounding tolerance in pixels by which a box may leave its image without being counted as clipped."""
_THREADS = 8


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object as the layout gives it, before the checks."""

    box: Box
    """Left, top, right, bottom in pixels."""
    label: int
    place: str
    """Its name in messages."""
    area: float | None = None
    """px^2; None uses the area of the mask or, without a mask, of the box inside the image."""
    crowd: bool = False
    mask: str | None = None
    """The mask in COCO's packed run-length encoding."""
    damaged: bool = False
    """Whether it has a mask that cannot be used: the object is used only where no masks are needed."""


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image as the layout gives it, before the checks."""

    id: str
    file: str
    """Relative to the root."""
    size: Size | None
    """None if the layout does not say."""
    part: str
    number: int
    objects: Sequence[RawObject]


def build_source(
    name: str,
    root: Path,
    images: Sequence[RawImage],
    classes: Sequence[str],
    *,
    category_ids: Sequence[int] | None = None,
    check: DetectionCheck,
    options: DetectionOptions,
    split: Split,
    look: Check,
) -> DetectionSource:
    """Check images and objects, and build a source from the usable ones.

    Raises:
        DamagedAnnotationsError: there are errors and they are not skipped; it names all at once.
        DataError: no image or no class is left.
    """
    facts = {} if look == "none" else _look_at(root, images, check, decode=look == "decode")
    kept = _usable_images(root, images, facts, check, looked=look != "none")
    kept = [replace(image, objects=_usable_objects(image, check)) for image in kept]
    for image in kept:
        if not image.objects:
            check.add("empty", image.id)
    table = _table(kept, check)
    check.finish(options.on_error if kept else "stop")
    if not kept:
        raise DataError(f"{name} has no images")
    kept, parts = _split(kept, split)
    order = np.array([PARTS.index(image.part) for image in kept], np.int8)
    image_table = ImageTable(
        Names(image.id for image in kept),
        Names(image.file for image in kept),
        np.array([image.size for image in kept], np.int64).reshape(-1, 2),
        order,
        np.array([image.number for image in kept], np.int64),
    )
    return DetectionSource(root, classes, image_table, table, category_ids=category_ids, check=check, split=parts)


def _look_at(root: Path, images: Sequence[RawImage], check: DetectionCheck, *, decode: bool) -> dict[str, Header]:
    def look(file: str) -> Header | tuple[str, str]:
        path = root / file
        if not path.is_file():
            return "missing-file", str(path)
        try:
            return check_file(path, decode=decode)
        except DataError as error:
            return "unreadable", str(error)

    files = sorted({image.file for image in images})
    found: dict[str, Header] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, fact in zip(files, pool.map(look, files), strict=True):
            if isinstance(fact, Header):
                found[file] = fact
            else:
                check.add(*fact)
    return found


def _usable_images(
    root: Path, images: Sequence[RawImage], facts: Mapping[str, Header], check: DetectionCheck, *, looked: bool
) -> list[RawImage]:
    """Return the images whose file exists and has the annotated size, each one once."""
    kept: list[RawImage] = []
    seen: dict[tuple[str, str], str] = {}
    by_file: dict[str, str] = {}
    for image in images:
        if (image.part, image.id) in seen:
            check.add("repeated-image", f"{image.id} ({image.part})")
            continue
        seen[image.part, image.id] = image.file
        if by_file.setdefault(image.file, image.part) != image.part:
            check.add("two-parts", f"{image.id} ({by_file[image.file]} and {image.part})")
            continue
        fact = facts.get(image.file)
        if fact is None and looked:
            continue
        if fact is not None and fact.orientation != 1:
            check.add("turned", f"{image.id} (orientation {fact.orientation})")
        if image.size is None:
            check.add("no-size", image.id)
            kept.append(replace(image, size=(fact or check_file(root / image.file, decode=False)).size))
        elif fact is not None and fact.size != image.size:
            check.add("other-size", _sizes(image, fact))
        else:
            kept.append(image)
    return kept


def _sizes(image: RawImage, fact: Header) -> str:
    stated = image.size or (0, 0)
    sizes = f"{fact.size[0]} x {fact.size[1]} pixels, annotated as {stated[0]} x {stated[1]}"
    return f"{image.id} ({sizes}{turned_hint(fact, stated)})"


def _usable_objects(image: RawImage, check: DetectionCheck) -> list[RawObject]:
    """Return the objects whose box has an area inside the image, clipped at its border."""
    height, width = image.size or (0, 0)
    kept: list[RawObject] = []
    for one in image.objects:
        left, top, right, bottom = one.box
        if not all(map(math.isfinite, one.box)):
            check.add("bad-object", f"{one.place} has a box that is not finite")
            continue
        if right <= left or bottom <= top:
            check.add("no-area", f"{one.place} ({_numbers(one.box)})")
            continue
        box = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
        if box[2] <= box[0] or box[3] <= box[1]:
            check.add("outside", f"{one.place} ({_numbers(one.box)} in {width} x {height})")
            continue
        if max(abs(a - b) for a, b in zip(box, one.box, strict=True)) > _BEYOND:
            check.add("clipped", f"{one.place} ({_numbers(one.box)} in {width} x {height})")
        area = one.area
        if one.mask is not None:
            pixels = float(mask_areas([one.mask], (height, width))[0])
            if pixels == 0:
                check.add("empty-mask", one.place)
            area = pixels if area is None else area
        kept.append(replace(one, box=box, area=(box[2] - box[0]) * (box[3] - box[1]) if area is None else area))
    return kept


def _numbers(box: Box) -> str:
    return ",".join(f"{value:g}" for value in box)


def _table(images: Sequence[RawImage], check: DetectionCheck) -> ObjectTable:
    objects = [one for image in images for one in image.objects]
    without = [one.place for one in objects if one.mask is None and not one.damaged]
    masks, masked = None, any(one.mask is not None for one in objects)
    if masked and not without:
        masks = Names(one.mask or "" for one in objects)
    elif masked:
        for place in without:
            check.add("no-mask", place)
    return ObjectTable(
        np.cumsum([0, *(len(image.objects) for image in images)], dtype=np.int64),
        np.array([one.box for one in objects], np.float32).reshape(-1, 4),
        np.array([one.label for one in objects], np.int64),
        np.array([one.crowd for one in objects], bool),
        np.array([one.area for one in objects], np.float32),
        masks,
    )


def _split(images: list[RawImage], split: Split) -> tuple[list[RawImage], str]:
    """Hold out training images for the parts that the layout does not have."""
    parts = {image.part for image in images}
    said = [f"{part} is the layout's own" for part in PARTS if part in parts]
    train = sorted((place for place, image in enumerate(images) if image.part == "train"), key=lambda i: images[i].id)
    order = [train[place] for place in np.random.default_rng(split.seed).permutation(len(train))]
    shares = {"validation": 0.0 if split.validation == "train" else split.share, "test": split.test_fraction}
    for part, share in shares.items():
        held = round(share * len(train))
        if part in parts or not held:
            continue
        start = 0
        if part == "validation":
            split.check_fold(len(train) // held)
            start = split.fold * held
        for place in order[start : start + held]:
            images[place] = replace(images[place], part=part)
        order = order[start + held :] + order[:start]
        said.append(f"{part} is {held} of the {len(train)} training images, drawn with seed {split.seed}")
    return images, "; ".join(said)
