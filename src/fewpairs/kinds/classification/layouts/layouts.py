"""One entrance to every labelled data set, by the name of its layout."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.classification.layouts.folder import FOLDERS, open_folder, visible_folders
from fewpairs.kinds.classification.layouts.huggingface import open_huggingface
from fewpairs.kinds.classification.layouts.idx import holds_idx, open_idx
from fewpairs.kinds.classification.layouts.imagenet import WNID, open_imagenet
from fewpairs.kinds.classification.layouts.torchvision_sets import open_torchvision
from fewpairs.kinds.classification.source import LabelledSource

LabelledKind = Literal["folder", "imagenet", "idx", "torchvision", "huggingface"]


@dataclass(frozen=True, kw_only=True)
class LabelledOptions:
    """Everything that a layout may want to know; None leaves it to the layout."""

    train: str | None = None
    """Folder (folder, imagenet) or split (huggingface) of the training images; `.` is the root itself."""
    validation: str | None = None
    test: str | None = None
    name: str | None = None
    """torchvision: the data set; huggingface: the configuration; idx: what the file names begin with."""
    classes: tuple[str, ...] | None = None
    """idx: names of the labels 0, 1, ..."""
    labels: str | None = None
    """imagenet: file with the labels of a flat validation folder."""
    synsets: str | None = None
    """imagenet: what the numbers in that file mean."""
    image_column: str | None = None
    label_column: str | None = None
    download: bool | None = None
    """torchvision: fetch files that are not there."""


_MEANT_FOR: dict[str, frozenset[str]] = {
    "folder": frozenset({"train", "validation", "test"}),
    "imagenet": frozenset({"train", "validation", "labels", "synsets"}),
    "idx": frozenset({"name", "classes"}),
    "torchvision": frozenset({"name", "download"}),
    "huggingface": frozenset({"name", "train", "validation", "test", "image_column", "label_column"}),
}
LABELLED_KINDS: tuple[str, ...] = tuple(_MEANT_FOR)


def open_labelled(
    kind: str, root: Path | str, options: LabelledOptions | None = None, *, cache: Path | None = None
) -> LabelledSource:
    """The labelled data set at `root` in the layout `kind`.

    Args:
        kind: `folder`, `imagenet`, `idx`, `torchvision` or `huggingface`.
        root: the folder of the data set; for `huggingface` also a name on the hub.
        cache: folder for unpacked IDX files, so that processes share them.

    Raises:
        InputError: an unknown layout, an option that it does not have, or files that are not there.
        DataError: what is there is damaged or contradicts itself.
    """
    options = options or LabelledOptions()
    if kind not in _MEANT_FOR:
        raise InputError(f"unknown layout kind={kind!r}; {nearest(kind, LABELLED_KINDS)}")
    given = {field.name for field in fields(options) if getattr(options, field.name) is not None}
    stray = sorted(given - _MEANT_FOR[kind])
    if stray:
        raise InputError(
            f"{', '.join(stray)}: no option of the layout {kind!r}, which has {', '.join(sorted(_MEANT_FOR[kind]))}"
        )
    splits = {"train": options.train, "validation": options.validation, "test": options.test}
    if kind == "huggingface":
        return open_huggingface(
            str(root),
            name=options.name,
            splits=splits,
            image_column=options.image_column,
            label_column=options.label_column,
        )
    root = Path(root)
    if kind == "torchvision":
        return open_torchvision(root, name=options.name, download=bool(options.download))
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    if kind == "idx":
        return open_idx(root, name=options.name, classes=options.classes, cache=cache)
    if kind == "imagenet":
        return open_imagenet(
            root, train=options.train, validation=options.validation, labels=options.labels, synsets=options.synsets
        )
    return open_folder(root, train=options.train, validation=options.validation, test=options.test)


def detect_labelled(root: Path | str) -> str | None:
    """The layout of the folder `root`, judged by the names in it; None if it has none of them.

    A torchvision data set is not recognised: its name must be given.
    """
    root = Path(root)
    if not root.is_dir():
        return None
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "huggingface"
    if holds_idx(root):
        return "idx"
    training = next((root / name for name in FOLDERS["train"] if (root / name).is_dir()), root)
    folders = visible_folders(training)
    if training != root and folders and all(WNID.fullmatch(name) for name in folders):
        return "imagenet"
    return "folder" if folders or visible_folders(root) else None
