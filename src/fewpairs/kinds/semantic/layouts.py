"""Layouts on disk: ADE20K, Cityscapes, and a folder of images beside one of masks."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fewpairs.data.files import CasePattern, visible_files
from fewpairs.data.pictures import LOSSLESS, PICTURES
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.semantic.labels import ColourReading, NonzeroReading, NumberReading, Reading
from fewpairs.kinds.semantic.names import ADE20K, CITYSCAPES, Colour, palette, read_names
from fewpairs.kinds.semantic.source import SceneFiles, SemanticSource
from fewpairs.types import IGNORE

SemanticKind = Literal["ade20k", "cityscapes", "label-maps"]

SEMANTIC_KINDS: tuple[str, ...] = get_args(SemanticKind)

_PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class SemanticOptions:
    """What a layout does not say itself.

    Attributes:
        classes: names in the order of the labels, with the background where there is one.
        classes_file: a text file with these names, one a line, instead.
        ignore: the stored number that is not scored; only for label numbers.
        zero_is_ignored: 0 is not scored and 1 is the first class, as in ADE20K.
        nonzero: everything but 0 is the second of two classes.
        colours: for colour-coded masks, the (red, green, blue) of every class; `ignore` has no meaning then.
        images, masks: names of the two folders.
        split_file: a CSV file with the columns `id` (file name without suffix) and `split` (train, val, test).
        case_pattern: regular expression with one group that finds the case (patient) in a file's name without suffix.
    """

    classes: tuple[str, ...] | None = None
    classes_file: str | None = None
    ignore: int | None = IGNORE
    zero_is_ignored: bool = False
    nonzero: bool = False
    colours: dict[str, tuple[int, int, int]] | None = None
    images: str = "images"
    masks: str = "masks"
    split_file: str | None = None
    case_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes_file is not None:
            raise InputError("data.source.classes and data.source.classes_file both name the classes; give one of them")
        ways = [name for name in ("zero_is_ignored", "nonzero", "colours") if getattr(self, name)]
        if len(ways) > 1:
            raise InputError(f"data.source.{' and data.source.'.join(ways)} are two ways to read a mask; give one")
        if self.ignore is not None and not 0 <= self.ignore <= 65535:
            raise InputError(f"data.source.ignore={self.ignore}: a stored number lies between 0 and 65535; null: none")
        for name, colour in (self.colours or {}).items():
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise InputError(f"data.source.colours.{name}={list(colour)}: give red, green and blue, 0 to 255")


def open_semantic(kind: str, root: str | Path, options: SemanticOptions | None = None) -> SemanticSource:
    """The data set at `root`; files are listed and paired, not read.

    Raises:
        InputError: an unknown kind, or options that contradict each other or the layout.
        DataError: what is missing or has no partner.
    """
    options, root = options or SemanticOptions(), Path(root)
    if kind not in get_args(SemanticKind):
        raise InputError(f"data.kind={kind!r} is no layout of label maps; {nearest(kind, get_args(SemanticKind))}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; data.root must hold the layout {kind!r}")
    return {"ade20k": _ade20k, "cityscapes": _cityscapes, "label-maps": _folder}[kind](root, options)


def _ade20k(root: Path, options: SemanticOptions) -> SemanticSource:
    named = options.classes or (read_names(Path(options.classes_file)) if options.classes_file else None)
    info = root / "objectInfo150.txt"
    classes = named or (read_names(info) if info.is_file() else ADE20K)
    parts = {}
    for part, folder in (("train", "training"), ("val", "validation")):
        images, masks = root / "images" / folder, root / "annotations" / folder
        if part == "val" and not images.is_dir():
            continue
        parts[part] = _pairs(images, masks, options, prefix="")
    colours = palette(len(classes) + 1)[1:]
    reading = NumberReading.plain(classes, ignore=None, shift=True)
    return SemanticSource(root.name, classes, parts, reading, colours=colours)


def _cityscapes(root: Path, options: SemanticOptions) -> SemanticSource:
    if options.classes or options.classes_file:
        raise InputError("Cityscapes has its 19 classes; for others use data.kind=folder")
    parts: dict[str, list[SceneFiles]] = {}
    trained = True
    for part in ("train", "val"):
        folder = root / "leftImg8bit" / part
        if part == "val" and not folder.is_dir():
            continue
        files = []
        for city in sorted(path for path in _listed(folder) if path.is_dir()):
            for image in visible_files(city, ("_leftimg8bit.png",)):
                stem = image.name[: -len("_leftImg8bit.png")]
                mask = root / "gtFine" / part / city.name / f"{stem}_gtFine_labelTrainIds.png"
                if not mask.is_file() and mask.with_name(f"{stem}_gtFine_labelIds.png").is_file():
                    mask, trained = mask.with_name(f"{stem}_gtFine_labelIds.png"), False
                files.append(SceneFiles(stem, stem, image, mask))
        _fail_on_missing([one.mask for one in files if not one.mask.is_file()], "images without a label map")
        parts[part] = files
    if not trained and any(one.mask.name.endswith("TrainIds.png") for files in parts.values() for one in files):
        raise DataError(
            f"{root / 'gtFine'} has *_labelTrainIds.png for some images and only *_labelIds.png for others; make them "
            "for all, or remove them"
        )
    names = tuple(CITYSCAPES)
    if trained:
        reading = NumberReading.plain(names)
    else:
        ids = {label: index for index, (label, _) in enumerate(CITYSCAPES.values())}
        reading = NumberReading({number: ids.get(number, IGNORE) for number in range(256)}, names)
    return SemanticSource(root.name, names, parts, reading, colours=[colour for _, colour in CITYSCAPES.values()])


def _folder(root: Path, options: SemanticOptions) -> SemanticSource:
    classes, reading = _classes_and_reading(options)
    images, masks = root / options.images, root / options.masks
    inside = [path.name for path in _listed(images) if path.is_dir()]
    named = {part: next((name for name in names if name in inside), None) for part, names in _PART_NAMES.items()}
    parts: dict[str, list[SceneFiles]]
    if options.split_file is not None:
        if any(named.values()):
            raise InputError(
                f"{images} has folders for its parts already ({', '.join(n for n in named.values() if n)}); leave "
                "data.source.split_file out"
            )
        parts = _by_table(root / options.split_file, _pairs(images, masks, options, prefix=""))
    elif any(named.values()):
        parts = {
            part: _pairs(images / name, masks / name, options, prefix=f"{name}/")
            for part, name in named.items()
            if name
        }
    else:
        parts = {"train": _pairs(images, masks, options, prefix="")}
    colours: Sequence[Colour] | None = palette(len(classes) + 1)[1:] if options.zero_is_ignored else None
    if options.colours is not None:
        colours = [options.colours[name] for name in classes]
    return SemanticSource(root.name, classes, parts, reading, colours=colours)


def _classes_and_reading(options: SemanticOptions) -> tuple[tuple[str, ...], Reading]:
    classes = options.classes
    if options.classes_file is not None:
        classes = read_names(Path(options.classes_file))
    if options.colours is not None:
        classes = classes or tuple(options.colours)
        if set(classes) != set(options.colours):
            odd = sorted(set(classes) ^ set(options.colours))
            raise InputError(
                f"data.source.colours must name the colour of every class and no other: {odd[0]!r} differs"
            )
        colours: list[Colour] = [options.colours[name] for name in classes]
        return classes, ColourReading(colours)
    if classes is None:
        raise InputError(
            "data.source.classes is not set; name the classes in the order of their labels from 0 on, as in "
            "data.source.classes=[background,nucleus], or give data.source.classes_file"
        )
    if options.nonzero:
        if len(classes) != 2:
            raise InputError(
                f"data.source.nonzero reads two classes, 0 and everything else, but data.source.classes has "
                f"{len(classes)}: {list(classes)}"
            )
        return tuple(classes), NonzeroReading()
    ignore = None if options.zero_is_ignored and options.ignore == IGNORE else options.ignore
    return tuple(classes), NumberReading.plain(classes, ignore=ignore, shift=options.zero_is_ignored)


def _pairs(images: Path, masks: Path, options: SemanticOptions, *, prefix: str) -> list[SceneFiles]:
    """Images and masks of the same names, whatever their suffixes."""
    case = CasePattern(options.case_pattern)
    found, maps = _by_stem(images, PICTURES), _by_stem(masks, LOSSLESS)
    _fail_on_missing([path for stem, path in found.items() if stem not in maps], f"images without a mask in {masks}")
    _fail_on_missing([path for stem, path in maps.items() if stem not in found], f"masks without an image in {images}")
    if not found:
        raise DataError(f"{images} holds no pictures ({', '.join(PICTURES)})")
    return [
        SceneFiles(f"{prefix}{stem}", case(stem) if options.case_pattern else f"{prefix}{stem}", path, maps[stem])
        for stem, path in found.items()
    ]


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in visible_files(folder, suffixes):
        if path.stem in files:
            raise DataError(f"{files[path.stem]} and {path} have one name; a name may stand for one file only")
        files[path.stem] = path
    return files


def _by_table(path: Path, files: Sequence[SceneFiles]) -> dict[str, list[SceneFiles]]:
    parts: Mapping[str, str] = {name: part for part, names in _PART_NAMES.items() for name in names}
    try:
        with path.open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table with the columns id and split ({error})") from None
    if not rows or not {"id", "split"} <= set(rows[0]):
        raise DataError(f"{path} must be a CSV file with the columns id and split")
    chosen: dict[str, str] = {}
    for row in rows:
        if row["split"] not in parts:
            raise DataError(f"{path}: {row['id']!r} has the split {row['split']!r}; allowed are {', '.join(parts)}")
        chosen[row["id"]] = parts[row["split"]]
    known = {Path(one.id).name for one in files}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise DataError(f"{path} lists {unknown[0]!r}, for which there is no image ({len(unknown)} such)")
    left = [one.id for one in files if one.id not in chosen]
    if left:
        raise DataError(f"{path} does not list the image {left[0]!r} ({len(left)} such); give each a split")
    return {part: [one for one in files if chosen[one.id] == part] for part in _PART_NAMES}


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _fail_on_missing(paths: Sequence[Path], what: str) -> None:
    if paths:
        named = ", ".join(path.name for path in paths[:_LISTED])
        raise DataError(
            f"{len(paths)} {what}: {named}{' ...' if len(paths) > _LISTED else ''}; every image needs a mask of the "
            "same name, and the other way round"
        )
