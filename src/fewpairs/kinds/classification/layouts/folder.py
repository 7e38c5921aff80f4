"""Layout with a folder for each class: `train/cat/1.jpg`, `val/cat/2.jpg`, or class folders without parts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.data.files import counted_suffixes, left_out_notes, listed, visible_folders
from fewpairs.data.names import Names
from fewpairs.data.pictures import SUFFIXES, is_image, list_images, read_header, read_image
from fewpairs.data.split import part_names, part_of
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource

_LOOKED_AT = 64
_WRAPPED = 3
"""Number of folders with nothing else in them that may lie around the folders of the parts."""


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
        train, validation, test: folders of the parts below `root`; by default those named after a part (`part_of`) that
            hold class folders, and `root` itself if there is no training folder. `train="."` takes `root` itself.

    Raises:
        InputError: a named folder does not exist.
        DataError: a class folder is empty, images are outside of class folders, a class is missing in training, there
            are fewer than two classes, or folders can be parts as well as classes.
    """
    found, notes = part_folders(root, {"train": train, "validation": validation, "test": test})
    folders = {part: class_folders(folder, found) for part, folder in found.items()}
    classes = folders["train"]
    parts = {part: read_part(root, found[part], names, classes) for part, names in folders.items()}
    others = [file for _, left in parts.values() for file in left]
    notes = [*notes, *stray_folders(root, found), *left_out_notes(others, "files that are not pictures")]
    files = {name: part for name, (part, _) in parts.items()}
    return LabelledSource(str(root), classes, files, channels=channels_of(files["train"]), notes=notes)


def part_folders(root: Path, named: Mapping[str, str | None]) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each existing part, and notes on folders that were left out.

    Folders are those in `root`, or in its only folder if this has a training folder. A part in a folder of its own name
    (`seg_train/seg_train`) is found too.

    Raises:
        InputError: a named folder does not exist, or two folders have the name of one part.
        DataError: there are folders of other parts but none for training, or folders without class folders, which can
            be parts as well as classes.
    """
    base = _folder_of_parts(root)
    there = part_names(visible_folders(base))
    found: dict[str, Path] = {}
    unlabelled: list[Path] = []
    for part, name in named.items():
        if name is not None:
            found[part] = root / name
            if not found[part].is_dir():
                raise InputError(f"{part}={name!r}: {found[part]} is not a folder")
            continue
        folders = [_innermost(base / known, part) for known in there.get(part, ())]
        labelled = [folder for folder in folders if visible_folders(folder)]
        unlabelled += [folder for folder in folders if folder not in labelled]
        if len(labelled) > 1:
            shown = listed([str(folder.relative_to(root)) for folder in labelled])
            raise InputError(f"{root} has several folders for {part}: {shown}; name one with {part}=")
        if labelled:
            found[part] = labelled[0]
    stray = [found[part].name for part in found if named[part] is None]
    if "train" not in found and stray:
        raise DataError(
            f"{root} has {listed(stray)} but no training folder with class folders in it "
            "(train, training, training_set, ...); name it with train="
        )
    if "train" not in found:
        _check_no_flat_part(base, unlabelled)
        return {"train": root}, []
    notes = [f"{folder} has no class folders and is left out" for folder in unlabelled if named["train"] != "."]
    return {"train": found["train"]} | found, notes


def _folder_of_parts(root: Path) -> Path:
    """Return `root`, or the only folder in it if this one holds a training folder."""
    base = root
    for _ in range(_WRAPPED):
        names = visible_folders(base)
        if "train" in part_names(names):
            return base
        if len(names) != 1:
            break
        base = base / names[0]
    return root


def _innermost(folder: Path, part: str) -> Path:
    """Return the folder of a part, which may be the only content of a folder of the same part's name."""
    for _ in range(_WRAPPED):
        inside = visible_folders(folder)
        if len(inside) != 1 or part_of(inside[0]) != part or any(map(is_image, os.listdir(folder))):
            break
        folder = folder / inside[0]
    return folder


def stray_folders(root: Path, found: Mapping[str, Path]) -> tuple[str, ...]:
    """Return a sentence on the folders beside those of the parts that belong to none; empty if there are none."""
    base = _folder_of_parts(root)
    if found["train"] in (root, base):
        return ()
    known = {folder.relative_to(base).parts[0] for folder in found.values() if base in folder.parents}
    others = [name for name in visible_folders(base) if name not in known and part_of(name) is None]
    return (f"left out folders that are no part: {listed(others)}",) if others else ()


def _check_no_flat_part(root: Path, unlabelled: Sequence[Path]) -> None:
    """Raise DataError if folders of images are named after parts, so that they would be taken for classes.

    A class may be called `train`, and then also `test`, if there are other classes.
    """
    flat = [folder.name for folder in unlabelled if any(map(is_image, os.listdir(folder)))]
    classes = [name for name in visible_folders(root) if name not in flat]
    if flat and (not classes or not any(part_of(name) == "train" for name in flat)):
        raise DataError(
            f"{root}: the folder{'s' * (len(flat) > 1)} {listed(flat)} {'hold' if len(flat) > 1 else 'holds'} images "
            f"in no class folder and would be taken for {'classes' if len(flat) > 1 else 'a class'}; sort the images "
            "into a folder for each class, move the folder away, or, if it is a class, say train=. (annotations beside "
            "the images are those of detection: data.kind=coco or voc)"
        )


def training_folder(root: Path) -> Path:
    """Return the folder named after the training part, or `root` if there is none."""
    base = _folder_of_parts(root)
    names = part_names(visible_folders(base)).get("train")
    return _innermost(base / names[0], "train") if names else root


def class_folders(folder: Path, parts: Mapping[str, Path]) -> list[str]:
    """Return the sorted names of the class folders in `folder`, which may also hold the folders of other `parts`.

    Raises:
        DataError: there are none.
    """
    names = [name for name in visible_folders(folder) if folder / name not in parts.values()]
    if not names:
        raise DataError(f"{folder} holds no class folders; expected {folder / 'CLASS' / 'image.jpg'}")
    return names


def read_part(root: Path, folder: Path, names: Sequence[str], classes: Sequence[str]) -> tuple[FilesPart, list[str]]:
    """Read the images of the class folders `names` in `folder`, and return the other files too.

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
    others: list[str] = []
    empty: list[str] = []
    for name in names:
        inside = list_images(folder / name)
        if not inside.images:
            held = f" (it has {counted_suffixes(inside.others)})" if inside.others else ""
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
