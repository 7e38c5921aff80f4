"""A folder of images beside one of masks with the same names; a table or subfolders may define the parts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewpairs.data.files import CasePattern, files_by_stem, pair_files, visible_files, visible_folders
from fewpairs.data.pictures import LOSSLESS, SCANS
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.labels import ColourReading, NonzeroReading, NumberReading, Reading
from fewpairs.kinds.semantic.layouts.open import SemanticOptions
from fewpairs.kinds.semantic.names import Colour, palette, read_names
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource
from fewpairs.types import IGNORE

_PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}


def open_label_maps(root: Path, options: SemanticOptions) -> SemanticSource:
    """Open images in one folder and masks of the same names in another, each with or without subfolders for the parts.

    Raises:
        InputError: options contradict each other or the folders.
        DataError: files are missing or have no partner.
    """
    classes, reading = _classes_and_reading(options)
    images, masks = root / options.images, root / options.masks
    inside = visible_folders(images)
    named = {part: next((name for name in names if name in inside), None) for part, names in _PART_NAMES.items()}
    parts: dict[str, list[ImageFiles]]
    if options.split_file is not None:
        if any(named.values()):
            raise InputError(
                f"{images} already has folders for its parts ({', '.join(n for n in named.values() if n)}); leave "
                "data.source.split_file out"
            )
        parts = _by_table(root / options.split_file, paired_files(images, masks, options.case_pattern))
    elif any(named.values()):
        parts = {
            part: paired_files(images / name, masks / name, options.case_pattern, f"{name}/")
            for part, name in named.items()
            if name
        }
    else:
        parts = {"train": paired_files(images, masks, options.case_pattern)}
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


def paired_files(images: Path, masks: Path, case_pattern: str | None, prefix: str = "") -> list[ImageFiles]:
    """Pair images and masks of the same names, regardless of their suffixes; ids begin with `prefix`.

    Raises:
        DataError: there are no images, files without a partner, equal names, or names that do not match the pattern.
    """
    case = CasePattern(case_pattern)
    found, maps = (files_by_stem(visible_files(*where)) for where in ((images, SCANS), (masks, LOSSLESS)))
    pairs = pair_files((images, found), (masks, maps), "mask")
    if not pairs:
        raise DataError(f"{images} holds no pictures ({', '.join(SCANS)})")
    return [
        ImageFiles(f"{prefix}{image.stem}", case(image.stem) if case_pattern else f"{prefix}{image.stem}", image, mask)
        for image, mask in pairs
    ]


def _by_table(path: Path, files: Sequence[ImageFiles]) -> dict[str, list[ImageFiles]]:
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
