"""ImageNet (ILSVRC 2012): `train/<wnid>/*.JPEG`, and `val/` in class folders or flat with a file of labels.

A wnid is the WordNet number of a class, as n01440764; classes are the sorted wnids, which is the order of published
weights.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from fewpairs.data.files import listed, visible_folders
from fewpairs.data.pictures import is_image
from fewpairs.data.split import part_names
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.layouts.folder import (
    FilesPart,
    channels_of,
    class_folders,
    part_folders,
    read_part,
)
from fewpairs.kinds.classification.source import LabelledSource

WNID = re.compile(r"n\d{8}")

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_LABELS = ("LOC_val_solution.csv", "val.csv", "val_labels.csv", _TRUTH, f"ILSVRC2012_devkit_t12/data/{_TRUTH}")
_SYNSETS = ("synsets.txt", "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat")
_NUMBER = re.compile(r"_(\d+)\.[A-Za-z]+$")


def open_imagenet(
    root: Path,
    *,
    train: str | None = None,
    validation: str | None = None,
    labels: str | None = None,
    synsets: str | None = None,
) -> LabelledSource:
    """Open the ImageNet layout below `root`.

    Args:
        train, validation: folders below `root`, by default `train` and `val`.
        labels: for a flat validation folder, the file below `root` with its labels: a CSV with the name of an image and
            its wnid in the first two columns (`LOC_val_solution.csv` of Kaggle is one), or
            `ILSVRC2012_validation_ground_truth.txt` with a number for each image in the order of their names.
        synsets: file with the wnids of those numbers: `meta.mat` of the development kit, or a text file with one wnid a
            line, the first for number 1. By default both files are found under their usual names.

    Raises:
        InputError: a named or required file or folder is missing.
        DataError: a folder is not a wnid, labels do not fit the images, or as `open_folder`.
    """
    flat = _flat(root, validation)
    found, notes = part_folders(root, {"train": train} if flat else {"train": train, "validation": validation})
    folders = {part: class_folders(folder, found) for part, folder in found.items()}
    classes = folders["train"]
    stray = [name for name in classes if not WNID.fullmatch(name)]
    if stray:
        raise DataError(
            f"{found['train']}: {listed(stray)} are no WordNet numbers such as n01440764; "
            "read other folders of classes with kind=folder"
        )
    parts = {part: read_part(root, found[part], names, classes)[0] for part, names in folders.items()}
    if flat:
        parts["validation"] = _flat_part(root, flat, classes, labels, synsets)
    elif labels or synsets:
        raise InputError(
            f"labels= and synsets= are for a validation folder without class folders; {root} has "
            + (f"class folders in {found['validation']}" if "validation" in found else "no validation folder")
        )
    return LabelledSource(str(root), classes, parts, channels=channels_of(parts["train"]), notes=notes)


def _flat(root: Path, validation: str | None) -> Path | None:
    """Return the validation folder if it holds images and no class folders."""
    for name in [validation] if validation else part_names(visible_folders(root)).get("validation", ()):
        folder = root / name
        if folder.is_dir() and not visible_folders(folder) and any(map(is_image, os.listdir(folder))):
            return folder
    return None


def _flat_part(root: Path, folder: Path, classes: list[str], labels: str | None, synsets: str | None) -> FilesPart:
    images = sorted(name for name in os.listdir(folder) if is_image(name))
    table = _find(root, labels, _LABELS, f"the labels of the images in {folder}", "labels")
    if table.suffix.lower() == ".csv":
        wnids = _from_csv(table, images)
    else:
        order = read_synsets(_find(root, synsets, _SYNSETS, f"the wnids of the numbers in {table}", "synsets"))
        wnids = _from_numbers(table, images, order)
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(wnids) - set(number))
    if unknown:
        raise DataError(f"{table} gives images to classes without training images: {listed(unknown)}")
    prefix = folder.relative_to(root).as_posix()
    return FilesPart(root, [f"{prefix}/{name}" for name in images], [number[wnid] for wnid in wnids])


def _find(root: Path, name: str | None, usual: tuple[str, ...], what: str, setting: str) -> Path:
    candidates = [root / name] if name else [root / known for known in usual]
    for path in candidates:
        if path.is_file():
            return path
    if name:
        raise InputError(f"{setting}={name!r}: {root / name} does not exist; it should hold {what}")
    raise InputError(f"{what} were not found; put {' or '.join(usual)} into {root}, or name the file with {setting}=")


def _from_csv(table: Path, images: list[str]) -> list[str]:
    """Read the wnid of every image: first word of the second column, for names with or without suffix."""
    known: dict[str, str] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.reader(file):
                if len(row) < 2:
                    raise DataError(f"{table}: a row {','.join(row)!r} lacks its second column, the wnid")
                known[Path(row[0]).stem] = next(iter(row[1].split()), "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a CSV file ({error})") from None
    missing = [name for name in images if Path(name).stem not in known]
    if missing:
        raise DataError(f"{table} has no row for {len(missing)} of {len(images)} images: {listed(missing, 3)}")
    return [known[Path(name).stem] for name in images]


def _from_numbers(table: Path, images: list[str], order: list[str]) -> list[str]:
    """Read the wnid of every image: line `i` belongs to the image whose name ends with the number `i`."""
    lines = _lines(table)
    if len(lines) != len(images):
        raise DataError(f"{table} has {len(lines)} lines, but there are {len(images)} images; each needs one")
    wnids = []
    for name in images:
        match = _NUMBER.search(name)
        if match is None or not 1 <= int(match[1]) <= len(lines):
            raise DataError(f"{name} does not end with a number from 1 to {len(lines)}, its line in {table}")
        line = lines[int(match[1]) - 1]
        if not line.isdecimal() or not 1 <= int(line) <= len(order):
            raise DataError(f"{table}, line {int(match[1])}: {line!r} is no number from 1 to {len(order)}")
        wnids.append(order[int(line) - 1])
    return wnids


def read_synsets(path: Path) -> list[str]:
    """Read the wnids of the numbers 1, 2, ..., from `meta.mat` of the development kit or a text file with one a line.

    Raises:
        DataError: the file has another content.
    """
    wnids = _from_meta(path) if path.suffix.lower() == ".mat" else [line.split()[0] for line in _lines(path)]
    wrong = [wnid for wnid in wnids if not WNID.fullmatch(wnid)]
    if wrong or not wnids:
        raise DataError(
            f"{path} should hold WordNet numbers such as n01440764, but has {listed(wrong, 3) or 'nothing'}"
        )
    return wnids


def _from_meta(path: Path) -> list[str]:
    from scipy.io import loadmat

    try:
        table: Any = loadmat(path, squeeze_me=True)["synsets"]
        leaves = [row for row in table if int(row["num_children"]) == 0]
        numbered = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    except Exception as error:  # a damaged file makes SciPy's reader raise nearly anything
        raise DataError(f"{path} is not meta.mat of the ILSVRC2012 development kit ({error})") from None
    if sorted(numbered) != np.arange(1, len(numbered) + 1).tolist():
        raise DataError(f"{path} does not number its {len(numbered)} classes from 1 on")
    return [numbered[number] for number in sorted(numbered)]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error})") from None
