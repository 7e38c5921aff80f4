"""Opening of labelled data sets by the name of their layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from fewpairs.data.files import Layout, choose_layout, visible_folders
from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import LabelledSource

LabelledKind = Literal["folder", "imagenet", "idx", "torchvision", "huggingface"]


@dataclass(frozen=True, kw_only=True)
class LabelledOptions:
    """Options of all layouts; None leaves the choice to the layout."""

    train: str | None = None
    """Folder (folder, imagenet) or split (huggingface) of the training images; `.` is the root itself."""
    validation: str | None = None
    test: str | None = None
    name: str | None = None
    """torchvision: the data set; huggingface: the configuration; idx: the start of the file names."""
    classes: tuple[str, ...] | None = None
    """idx: names of the labels 0, 1, ..."""
    labels: str | None = None
    """imagenet: file with the labels of a flat validation folder."""
    synsets: str | None = None
    """imagenet: file with the WordNet numbers of the numbers in that file."""
    image_column: str | None = None
    label_column: str | None = None
    download: bool | None = None
    """torchvision: whether to download missing files."""


_HERE = "fewpairs.kinds.classification.layouts"
LAYOUTS = {
    "folder": Layout(f"{_HERE}.folder:open_folder", ("train", "validation", "test")),
    "imagenet": Layout(f"{_HERE}.imagenet:open_imagenet", ("train", "validation", "labels", "synsets")),
    "idx": Layout(f"{_HERE}.idx:open_idx", ("name", "classes")),
    "torchvision": Layout(f"{_HERE}.torchvision_sets:open_torchvision", ("name", "download")),
    "huggingface": Layout(
        f"{_HERE}.huggingface:open_huggingface",
        ("name", "train", "validation", "test", "image_column", "label_column"),
    ),
}


def open_labelled(
    kind: str, root: Path | str, options: LabelledOptions | None = None, *, cache: Path | None = None
) -> LabelledSource:
    """Open the labelled data set at `root` in the layout `kind`.

    Args:
        kind: `folder`, `imagenet`, `idx`, `torchvision` or `huggingface`.
        root: the folder of the data set; for `huggingface` also a name on the hub.
        cache: folder for unpacked IDX files, so that processes share them.

    Raises:
        InputError: the layout is unknown or does not have an option, or files are missing.
        DataError: files are damaged or contradict one another.
    """
    opens, given = choose_layout(LAYOUTS, kind, options or LabelledOptions())
    if kind in ("huggingface", "torchvision"):  # a name on the hub is no folder, and a download makes its own
        return cast(LabelledSource, opens(root, **given))
    if not Path(root).is_dir():
        raise InputError(f"{root} is not a folder; give the root of the data set")
    if kind == "idx":
        given["cache"] = cache
    return cast(LabelledSource, opens(Path(root), **given))


def detect_labelled(root: Path | str) -> str | None:
    """Detect the layout of the folder `root` by the names in it; None if no layout fits.

    A torchvision data set is not recognised: its name must be given.
    """
    from fewpairs.kinds.classification.layouts.folder import training_folder
    from fewpairs.kinds.classification.layouts.idx import holds_idx
    from fewpairs.kinds.classification.layouts.imagenet import WNID

    root = Path(root)
    if not root.is_dir():
        return None
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "huggingface"
    if holds_idx(root):
        return "idx"
    training = training_folder(root)
    folders = visible_folders(training)
    if training != root and folders and all(WNID.fullmatch(name) for name in folders):
        return "imagenet"
    return "folder" if folders or visible_folders(root) else None
