"""Pascal VOC: `Annotations/ID.xml`, `JPEGImages/ID.jpg`, and the ids of each part in `ImageSets/Main/PART.txt`.

Exports of other programs are read too: `images` beside `annotations`, and XML files beside the images, in one folder or
in one for each part (Roboflow).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from fewpairs.data.description import Check
from fewpairs.data.files import files_by_stem, other_files, visible_files, visible_folders
from fewpairs.data.pictures import SUFFIXES, is_image
from fewpairs.data.split import PARTS, Split, part_names
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.detection.annotation_issues import DetectionCheck
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource
from fewpairs.kinds.detection.source_builder import Box, RawImage, RawObject, build_source
from fewpairs.types import Size

IMAGES, ANNOTATIONS, LISTS = "JPEGImages", "Annotations", "ImageSets/Main"
_PAIRS = ((IMAGES, ANNOTATIONS), ("images", "annotations"), ("images", ANNOTATIONS))
_FLAGS = ("-1", "0", "1")
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_CHALLENGE = re.compile(r"VOC\s*20[0-9]{2}")


@dataclass(frozen=True, slots=True)
class VocObject:
    """One `object` element."""

    name: str
    box: Box
    difficult: bool
    place: str


@dataclass(frozen=True, slots=True)
class VocFile:
    """The content of one XML file."""

    id: str
    file_name: str | None
    size: Size | None
    objects: tuple[VocObject, ...]
    wrong: tuple[str, ...]
    """A sentence for each object that cannot be used."""


def open_voc(root: Path, options: DetectionOptions, split: Split, look: Check) -> DetectionSource:
    """Open a data set in Pascal VOC's layout. It has no masks; an object's area is that of its box.

    Raises:
        InputError: a folder or list does not exist.
        DataError: files contradict one another.
    """
    check = DetectionCheck(str(root))
    found: list[tuple[str, str, VocFile]] = []
    for folder, xml_folder, own in voc_folders(root, options):
        there, images = files_by_stem(visible_files(xml_folder, (".xml",))), _image_files(folder)
        parts = {own: sorted(there)} if own else _parts(root, options, check, {**images, **there}, there)
        files = _files(parts, there, options, check)
        for part, ids in parts.items():
            for name in ids:
                if name in files:
                    place = os.path.relpath(folder / _image_of(files[name], images), root)
                    found.append((part, Path(place).as_posix(), files[name]))
        _note_others(root, folder, xml_folder, check)
        for name in sorted(set(images) - set(there) - {name for ids in parts.values() for name in ids}):
            check.add("no-annotation", images[name][0])
    names = sorted({one.name for _, _, file in found for one in file.objects})
    classes = list(options.classes or names)
    if not classes:
        raise DataError(f"{root}: no annotation holds an object with a name")
    if lost := [name for name in classes if name not in names]:
        raise InputError(f"classes: no object has the class {lost[0]!r}; {nearest(lost[0], names)}")
    label_of = {name: index for index, name in enumerate(classes)}
    raw = [
        RawImage(Path(place).name, place, file.size, part, number, _objects(file, label_of, options, check))
        for number, (part, place, file) in enumerate(found, start=1)
    ]
    return build_source(str(root), root, raw, classes, check=check, options=options, split=split, look=look)


def voc_folders(root: Path, options: DetectionOptions) -> list[tuple[Path, Path, str | None]]:
    """Return folders of images and of annotations, with their part; None for parts that lists name.

    Raises:
        InputError: there are no such folders.
    """
    if options.images is None and options.annotations is None:
        for names in _PAIRS:
            if all((root / name).is_dir() for name in names) and visible_files(root / names[1], (".xml",)):
                return [(root / names[0], root / names[1], None)]
        parts = part_names(visible_folders(root))
        if any(getattr(options, part) is not None for part in PARTS):
            parts = {part: [name] for part in PARTS if (name := getattr(options, part)) is not None}
        beside = [(part, root / name) for part, names in parts.items() for name in names if _has_xml(root / name)]
        if len(dict(beside)) < len(beside):
            raise InputError(
                f"{root} has several folders of one part; name one of each with train=, validation=, test="
            )
        if beside:
            return [(folder, folder, part) for part, folder in beside]
        if _has_xml(root):
            return [(root, root, "train")]
    folder, annotations = root / (options.images or IMAGES), root / (options.annotations or ANNOTATIONS)
    for path, option in ((folder, "images"), (annotations, "annotations")):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; name it with {option}=")
    return [(folder, annotations, None)]


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and bool(visible_files(folder, (".xml",)))


def _note_others(root: Path, folder: Path, annotations: Path, check: DetectionCheck) -> None:
    """Record the files that are neither images nor annotations."""
    beside = folder == annotations
    others = other_files(folder, (*SUFFIXES, ".xml") if beside else SUFFIXES)
    for path in (*others, *(() if beside else other_files(annotations, (".xml",)))):
        check.add("other-file", Path(os.path.relpath(path, root)).as_posix())


def read_voc(path: Path, first_pixel: int | None = None) -> VocFile:
    """Read one XML file; `first_pixel` is that of `DetectionOptions`.

    Raises:
        DataError: the file is not valid XML (the message gives the line) or not in VOC's format.
    """
    try:
        tree = ET.parse(path).getroot()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        line = f", line {error.position[0]}" if isinstance(error, ET.ParseError) else ""
        raise DataError(f"{path}{line}: not readable as XML ({error})") from None
    if tree.tag != "annotation":
        raise DataError(f"{path}: the outermost element is <{tree.tag}>, expected <annotation>")
    if first_pixel is None:
        first_pixel = 1 if _CHALLENGE.search(tree.findtext("source/database") or "") else 0
    objects: list[VocObject] = []
    wrong: list[str] = []
    for number, element in enumerate(tree.findall("object"), start=1):
        place = f"{path.name} object {number}"
        found = _object(element, place, first_pixel)
        if isinstance(found, VocObject):
            objects.append(found)
        else:
            wrong.append(f"{place} {found}")
    file_name = (tree.findtext("filename") or "").strip() or None
    return VocFile(path.stem, file_name, _size(tree), tuple(objects), tuple(wrong))


def _object(element: ET.Element, place: str, first_pixel: int) -> VocObject | str:
    name = (element.findtext("name") or "").strip()
    if not name:
        return "has no name"
    texts = [element.findtext(f"bndbox/{edge}") for edge in _EDGES]
    try:
        left, top, right, bottom = (float(text) if text else math.nan for text in texts)
    except ValueError:
        left = right = top = bottom = math.nan
    if not all(map(math.isfinite, (left, top, right, bottom))):
        given = ", ".join(f"{edge}={text}" for edge, text in zip(_EDGES, texts, strict=True))
        return f"({name}) has a box that is not four numbers: {given}"
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        return f"({name}) has difficult={difficult[:20]}, which is neither 0 nor 1"
    return VocObject(
        name, (left - first_pixel, top - first_pixel, right, bottom), difficult == "1", f"{place} ({name})"
    )


def _size(tree: ET.Element) -> Size | None:
    """Read height and width; None if they are missing or 0."""
    texts = [(tree.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    height, width = (int(text) if text.isdecimal() and len(text) < 10 else 0 for text in texts)
    return (height, width) if height and width else None


def _parts(
    root: Path, options: DetectionOptions, check: DetectionCheck, known: Collection[str], there: Mapping[str, Path]
) -> dict[str, list[str]]:
    """Return the ids of each part; without a list `train`, `trainval` is used for training.

    `known` are the ids of images and annotations, and `there` are the annotations.
    """
    lists = root / LISTS if (root / LISTS).is_dir() else (root / LISTS).parent
    named = {part: getattr(options, part) for part in PARTS if getattr(options, part) is not None}
    for part, name in named.items():
        if not (lists / f"{name}.txt").is_file():
            raise InputError(f"{part}={name!r}: {lists / f'{name}.txt'} is not a file")
    if not named and lists.is_dir():
        for part, names in part_names(path.stem for path in visible_files(lists, (".txt",))).items():
            several = [name for name in names if name != "trainval"] or names
            if len(several) > 1:
                raise InputError(f"{lists} has several lists for {part}: {', '.join(several)}; name one with {part}=")
            named[part] = several[0]
    if not named:
        return {"train": sorted(there)}
    parts = {part: _listed(lists / f"{name}.txt", part, check, known) for part, name in named.items()}
    listed = {name for ids in parts.values() for name in ids}
    for name in sorted(set(there) - listed):
        check.add("unlisted", name)
    return parts


def _listed(path: Path, part: str, check: DetectionCheck, known: Collection[str]) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error})") from None
    names: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        name = _id_in(line, known)
        if name in names:
            check.add("repeated-image", f"{path.name} line {number}: {name} ({part})")
        elif name:
            names[name] = None
    return list(names)


def _id_in(line: str, known: Collection[str]) -> str:
    """Return the id in a line of a list: it may hold blanks, and 1, 0 or -1 may follow it."""
    whole = line.strip()
    bare, _, last = whole.rpartition(" ")
    bare = bare.strip() if last in _FLAGS else whole
    ids = (whole, bare, Path(bare).stem if is_image(bare) else bare)
    return next((name for name in ids if name in known), bare)


def _files(
    parts: Mapping[str, Sequence[str]], there: Mapping[str, Path], options: DetectionOptions, check: DetectionCheck
) -> dict[str, VocFile]:
    files: dict[str, VocFile] = {}
    for name in dict.fromkeys(name for ids in parts.values() for name in ids):
        if name not in there:
            check.add("missing-annotation", name)
            continue
        try:
            files[name] = read_voc(there[name], options.first_pixel)
        except DataError as error:
            check.add("unreadable", str(error))
            continue
        for sentence in files[name].wrong:
            check.add("bad-object", sentence)
    return files


def _image_files(folder: Path) -> dict[str, list[str]]:
    """List the names of the images in a folder by their stem."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if is_image(name):
            found.setdefault(Path(name).stem, []).append(name)
    return found


def _image_of(file: VocFile, images: Mapping[str, Sequence[str]]) -> str:
    """Return the image with the annotation's stem, of several the annotated one; without any, a missing file's name."""
    found = images.get(file.id, ())
    if file.file_name in found:
        return str(file.file_name)
    return found[0] if found else f"{file.id}.jpg"


def _objects(
    file: VocFile, label_of: Mapping[str, int], options: DetectionOptions, check: DetectionCheck
) -> list[RawObject]:
    kept: list[RawObject] = []
    for one in file.objects:
        if one.name not in label_of:
            check.add("other-class", one.place)
            continue
        if one.difficult:
            check.add("difficult", one.place)
            if options.difficult == "drop":
                continue
        raw = RawObject(one.box, label_of[one.name], one.place)
        kept.append(replace(raw, crowd=one.difficult and options.difficult != "keep"))
    return kept
