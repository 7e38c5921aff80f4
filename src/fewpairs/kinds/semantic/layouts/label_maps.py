"""A folder of images beside one of masks with the same names; a table or subfolders may define the parts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewpairs.data.files import (
    CasePattern,
    files_by_stem,
    left_out_notes,
    listed,
    other_files,
    pair_files,
    visible_files,
    visible_folders,
)
from fewpairs.data.pictures import SUFFIXES, mask_files
from fewpairs.data.split import PARTS, part_names, part_of
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.semantic.labels import ColourReading, NonzeroReading, NumberReading, Reading
from fewpairs.kinds.semantic.layouts.open import SemanticOptions, numbers_of
from fewpairs.kinds.semantic.names import Colour, palette
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource


def open_label_maps(root: Path, options: SemanticOptions) -> SemanticSource:
    """Open images in one folder and masks of the same names in another.

    The parts are folders in both (`images/train`), or hold both (`train/images`), or a table names them; otherwise all
    images are for training.

    Raises:
        InputError: options contradict each other or the folders.
        DataError: files are missing or have no partner.
    """
    classes, reading = _classes_and_reading(options)
    images, masks = root / options.images, root / options.masks
    pairs = _folders_of_parts(root, options)
    parts: dict[str, list[ImageFiles]]
    if options.split_file is not None and pairs:
        raise InputError(
            f"{root} already has folders for its parts ({', '.join(name for _, _, name in pairs.values())}); leave "
            "data.source.split_file out"
        )
    if pairs:
        parts = {
            part: paired_files(images_of, masks_of, options.case_pattern, f"{name}/")
            for part, (images_of, masks_of, name) in pairs.items()
        }
    elif options.split_file is not None:
        parts = _by_table(root / options.split_file, paired_files(images, masks, options.case_pattern))
    else:
        parts = {"train": paired_files(images, masks, options.case_pattern)}
    read = [folder for images_of, masks_of, _ in pairs.values() for folder in (images_of, masks_of)] or [images, masks]
    notes = left_out_notes([path for folder in read for path in unread_files(folder)])
    for folder in (images, masks) if images.is_dir() and masks.is_dir() else ():
        if others := [name for name in visible_folders(folder) if folder / name not in read]:
            notes += (f"left out folders in {folder} that are no part: {listed(others)}",)
        if folder not in read:
            notes += left_out_notes(visible_files(folder, ("",)), f"files of no part in {folder}")
    colours: Sequence[Colour] | None = palette(len(classes) + 1)[1:] if options.zero_is_ignored else None
    if options.colours is not None:
        colours = [options.colours[name] for name in classes]
    return SemanticSource(root.name, classes, parts, reading, colours=colours, notes=notes)


def _folders_of_parts(root: Path, options: SemanticOptions) -> dict[str, tuple[Path, Path, str]]:
    """Return the folder of images, that of masks and the name of each part; empty if no folder is named after a part.

    Raises:
        DataError: a part has no masks, or two folders are for one part.
    """
    images, masks = root / options.images, root / options.masks
    if not images.is_dir() and not masks.is_dir():
        inside = [name for name in visible_folders(root) if (root / name / options.images).is_dir()]
        return {
            part: (root / name / options.images, root / name / options.masks, name)
            for part, name in _single(root, part_names(inside)).items()
        }
    named = [_single(folder, part_names(visible_folders(folder))) for folder in (images, masks)]
    if named[0] and (lost := set(named[0]) ^ set(named[1])):
        raise DataError(
            f"{images} has the parts {', '.join(named[0].values())}, but {masks} has "
            f"{', '.join(named[1].values()) or 'none'}; both need a folder for {' and '.join(sorted(lost))}"
        )
    return {part: (images / name, masks / named[1][part], name) for part, name in named[0].items()}


def _single(folder: Path, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the only folder of each part. Raises DataError if there are two."""
    for part, several in names.items():
        if len(several) > 1:
            raise DataError(f"{folder} has several folders for {part}: {', '.join(several)}; keep one")
    return {part: several[0] for part, several in names.items()}


def _classes_and_reading(options: SemanticOptions) -> tuple[tuple[str, ...], Reading]:
    classes = options.names
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
    if isinstance(options.classes, Mapping):
        numbers = numbers_of(options.classes)
        unscored = [options.ignore] if options.ignore is not None else []
        unscored += [number for name in [*numbers] if name not in classes for number in numbers.pop(name)]
        return tuple(classes), NumberReading.named(numbers, ignore=unscored)
    return tuple(classes), NumberReading.plain(classes, ignore=options.ignore, shift=options.zero_is_ignored)


def paired_files(images: Path, masks: Path, case_pattern: str | None, prefix: str = "") -> list[ImageFiles]:
    """Pair images and masks of the same names, regardless of their suffixes; ids begin with `prefix`.

    Raises:
        DataError: there are no images, files without a partner, equal names, or names that do not match the pattern.
    """
    case = CasePattern(case_pattern)
    pairs = pair_files((images, files_by_stem(visible_files(images, SUFFIXES))), (masks, mask_files(masks)), "mask")
    if not pairs:
        folders = listed(visible_folders(images))
        beside = f"; its folders {folders} are named after no part (train, val, test)" if folders else ""
        raise DataError(f"{images} holds no pictures ({', '.join(SUFFIXES)}){beside}")
    return [
        ImageFiles(f"{prefix}{image.stem}", case(image.stem) if case_pattern else f"{prefix}{image.stem}", image, mask)
        for image, mask in pairs
    ]


def unread_files(*folders: Path) -> list[Path]:
    """Return the files in `folders` that no reader takes."""
    return [path for folder in folders for path in other_files(folder, SUFFIXES)]


def _by_table(path: Path, files: Sequence[ImageFiles]) -> dict[str, list[ImageFiles]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as table:
            rows = list(csv.DictReader(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table with the columns id and split ({error})") from None
    if not rows or not {"id", "split"} <= set(rows[0]):
        raise DataError(f"{path} must be a CSV file with the columns id and split")
    chosen: dict[str, str] = {}
    known = {Path(one.id).name for one in files}
    for row in rows:
        name, part = row["id"] or "", part_of(row["split"] or "")
        if part is None:
            raise DataError(
                f"{path}: {name!r} has the split {row['split']!r}; allowed are train, val, test and the like"
            )
        name = name if name in known else name.strip()
        if chosen.setdefault(name, part) != part:
            raise DataError(f"{path} lists {name!r} twice, for {chosen[name]} and for {part}")
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise DataError(f"{path} lists {unknown[0]!r}, for which there is no image ({len(unknown)} such)")
    left = [one.id for one in files if one.id not in chosen]
    if left:
        raise DataError(f"{path} does not list the image {left[0]!r} ({len(left)} such); give each a split")
    return {part: [one for one in files if chosen[one.id] == part] for part in PARTS}
