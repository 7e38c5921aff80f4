"""Layout with a folder for each class: `train/cat/1.jpg`, `val/cat/2.jpg`, or class folders without parts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.data.files import listed, visible_folders
from fewpairs.data.names import Names
from fewpairs.data.pictures import SUFFIXES, is_image, list_images, read_header, read_image
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource

FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders of each part, in order of preference."""
_LOOKED_AT = 64


class FilesPart:
    """Images in single files below `root`; their ids are relative paths."""

    def __init__(self, root: Path, names: Sequence[str], labels: Sequence[int]) -> None:
        self.root, self._names = root, Names(names)
        self.labels: Indices = np.asarray(labels, np.int64)

    def read(self, index: int) -> Image.Image:
        return read_image(self.file(index))

    def id(self, index: int) -> str:
        return self._names[index]

    def file(self, index: int) -> Path:
        return self.root / self._names[index]


def open_folder(
    root: Path, *, train: str | None = None, validation: str | None = None, test: str | None = None
) -> LabelledSource:
    """Open images in one folder for each class, at any depth; classes are the sorted names of the folders.

    Args:
        train, validation, test: folders of the parts below `root`; by default those of `FOLDERS` that hold class
            folders, and `root` itself if there is no training folder. `train="."` takes `root` itself.

    Raises:
        InputError: a named folder does not exist.
        DataError: a class folder is empty, images are outside of class folders, a class is missing in training, or
            there are fewer than two classes.
    """
    found, notes = part_folders(root, {"train": train, "validation": validation, "test": test})
    folders = {part: class_folders(folder, found) for part, folder in found.items()}
    classes = folders["train"]
    parts = {part: read_part(root, found[part], names, classes) for part, names in folders.items()}
    others = sum((counted for _, counted in parts.values()), Counter[str]())
    if others:
        notes = [*notes, f"left out files that are not pictures: {_suffixes(others)}"]
    files = {name: part for name, (part, _) in parts.items()}
    return LabelledSource(str(root), classes, files, channels=channels_of(files["train"]), notes=notes)


def part_folders(root: Path, named: Mapping[str, str | None]) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each existing part, and notes on folders that were left out.

    Raises:
        InputError: a named folder does not exist.
        DataError: there are folders of other parts but none for training.
    """
    found: dict[str, Path] = {}
    unlabelled: list[Path] = []
    for part, name in named.items():
        if name is not None:
            found[part] = root / name
            if not found[part].is_dir():
                raise InputError(f"{part}={name!r}: {found[part]} is not a folder")
            continue
        there = [root / known for known in FOLDERS[part] if (root / known).is_dir()]
        labelled = [folder for folder in there if visible_folders(folder)]
        if labelled:
            found[part] = labelled[0]
        elif there:
            unlabelled.append(there[0])
    stray = [found[part].name for part in found if named[part] is None]
    if "train" not in found and stray:
        raise DataError(
            f"{root} has {listed(stray)} but no training folder with class folders in it "
            f"({' or '.join(FOLDERS['train'])}); name it with train="
        )
    notes = [f"{folder} has no class folders and is left out" for folder in unlabelled if "train" in found]
    return {"train": found.get("train", root)} | {part: found[part] for part in named if part in found}, notes


def class_folders(folder: Path, parts: Mapping[str, Path]) -> list[str]:
    """Return the sorted names of the class folders in `folder`, which may also hold the folders of other `parts`.

    Raises:
        DataError: there are none.
    """
    names = [name for name in visible_folders(folder) if folder / name not in parts.values()]
    if not names:
        raise DataError(f"{folder} holds no class folders; expected {folder / 'CLASS' / 'image.jpg'}")
    return names


def read_part(root: Path, folder: Path, names: Sequence[str], classes: Sequence[str]) -> tuple[FilesPart, Counter[str]]:
    """Read the images of the class folders `names` in `folder`, and count the other files by suffix.

    Raises:
        DataError: class folders are empty, images are outside of them, or names are not in `classes` (all are listed).
    """
    number = {name: label for label, name in enumerate(classes)}
    unknown = [name for name in names if name not in number]
    if unknown:
        raise DataError(
            f"{folder} has folders of classes without training images: {listed(unknown)}; "
            f"training has {listed(classes)}"
        )
    loose = [entry for entry in sorted(os.listdir(folder)) if is_image(entry) and (folder / entry).is_file()]
    if loose:
        raise DataError(f"{folder} holds {len(loose)} images that are in no class folder: {listed(loose, 3)}")
    files: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    empty: list[str] = []
    for name in names:
        inside = list_images(folder / name)
        if not inside.images:
            held = f" (it has {_suffixes(inside.others)})" if inside.others else ""
            empty.append(f"{folder / name}{held}")
        prefix = (folder / name).relative_to(root).as_posix()
        files += [f"{prefix}/{image}" for image in inside.images]
        labels += [number[name]] * len(inside.images)
        others += inside.others
    if empty:
        raise DataError(f"class folders without images: {listed(empty)}; images end in {', '.join(SUFFIXES)}")
    return FilesPart(root, files, labels), others


def channels_of(part: FilesPart) -> int:
    """Return 3 if any of up to 64 files, spread over the part, is in colour, else 1; damaged files are skipped."""
    for index in np.unique(np.linspace(0, len(part.labels) - 1, _LOOKED_AT).astype(int)):
        try:
            if read_header(part.file(int(index))).channels == 3:
                return 3
        except DataError:
            continue
    return 1


def _suffixes(counted: Counter[str]) -> str:
    return listed([f"{count} x {suffix}" for suffix, count in counted.most_common()])
