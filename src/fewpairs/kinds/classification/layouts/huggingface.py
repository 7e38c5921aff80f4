"""Hugging Face data sets by name on the hub, or from a folder of `save_to_disk` or of a download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewpairs.data.files import listed
from fewpairs.data.pictures import read_image
from fewpairs.data.split import PARTS, part_names
from fewpairs.errors import DataError, FewpairsError, InputError, nearest
from fewpairs.kinds.classification.source import Indices, LabelledSource, seen_channels

_SAVED = ("dataset_dict.json", "state.json")
_INSTALL = "the package `datasets` is not installed; get it with: pip install datasets"
_LOCAL = "give a folder instead: one that save_to_disk wrote, a downloaded copy, or class folders with kind=folder"


class HuggingFacePart:
    """Split whose images are decoded here, so that damage is reported as for files. Ids are `train/17`."""

    def __init__(self, name: str, dataset: Any, column: str, labels: Indices) -> None:
        self.name, self.dataset, self.column, self.labels = name, dataset, column, labels

    def read(self, index: int) -> Image.Image:
        stored = self.dataset[index][self.column]
        name = self.id(index)
        if stored is None:
            raise DataError(f"{name} has no image")
        content = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"])
        return read_image(content, f"{name} ({stored['path']})" if stored["path"] else name)

    def id(self, index: int) -> str:
        return f"{self.name}/{index}"

    def file(self, index: int) -> None:
        return None


def open_huggingface(
    root: Path | str,
    *,
    name: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> LabelledSource:
    """Open a data set with a column of images and a column of labels.

    Args:
        root: a folder, or a name on the hub such as `uoft-cs/cifar10`, which is downloaded at first use.
        name: configuration, if there are several.
        train, validation, test: splits of the parts; by default those named after a part.
        image_column, label_column: by default the only columns of images and of class labels.

    Raises:
        InputError: `datasets` is missing, the hub cannot be reached, or a split or column does not exist or is unclear.
        DataError: no training split, or labels that are neither numbers nor names.
    """
    root = str(root)
    found = _parts(root, _load(root, name), {"train": train, "validation": validation, "test": test})
    learned = found["train"]
    image = _column(root, "image", image_column, learned.features, "Image")
    label = _column(root, "label", label_column, learned.features, "ClassLabel")
    classes = _class_names(learned, label)
    parts = {part: _part(part, dataset, image, label, classes) for part, dataset in found.items()}
    notes = [
        f"the {name} split has no labels (all are -1) and is left out" for name in parts if _unlabelled(parts[name])
    ]
    parts = {name: part for name, part in parts.items() if not _unlabelled(part)}
    return LabelledSource(root, classes, parts, channels=seen_channels(parts["train"]), notes=notes)


def _load(root: str, name: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(f"{root}: {_INSTALL}") from None
    local = Path(root).is_dir()
    try:
        if local and any((Path(root) / file).is_file() for file in _SAVED):
            return datasets.load_from_disk(root)
        return datasets.load_dataset(root, name)
    except FewpairsError:
        raise
    except Exception as error:  # connection, hub and file system each raise classes of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        if local:
            raise DataError(f"{root} cannot be read as a Hugging Face data set: {reason}") from None
        raise InputError(
            f"{root!r} is no folder here, and could not be fetched from the Hugging Face hub ({reason}); {_LOCAL}"
        ) from None


def _parts(root: str, loaded: Any, splits: Mapping[str, str | None]) -> dict[str, Any]:
    there = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    found = {}
    usual = part_names(there)
    for part in PARTS:
        wanted = splits.get(part)
        if wanted is not None and wanted not in there:
            raise InputError(f"{root} has no split {part}={wanted!r}; {nearest(wanted, there)}")
        names = [wanted] if wanted is not None else usual.get(part, [])
        if len(names) > 1:
            raise InputError(f"{root} has several splits for {part}: {', '.join(names)}; name one with {part}=")
        if names:
            found[part] = there[names[0]]
    if "train" not in found:
        raise InputError(f"{root} has no split for training; name it with train=; known: {', '.join(there)}")
    return found


def _column(root: str, what: str, wanted: str | None, features: Mapping[str, Any], kind: str) -> str:
    """Return the wanted column, else the column `what`, else the only column of the feature type `kind`."""
    if wanted is not None:
        if wanted not in features:
            raise InputError(f"{root} has no column {what}_column={wanted!r}; {nearest(wanted, features)}")
        return wanted
    columns = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if what in columns or (what in features and not columns):
        return what
    if len(columns) == 1:
        return columns[0]
    why = f"several columns of the type {kind}" if columns else f"no column of the type {kind}"
    raise InputError(f"{root} has {why}; say which holds the {what}, {what}_column=; known: {', '.join(features)}")


def _class_names(dataset: Any, column: str) -> tuple[str, ...]:
    names = getattr(dataset.features[column], "names", None)
    if names is not None:
        return tuple(map(str, names))
    values = set(_values(dataset, column))
    return tuple(str(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value)))


def _values(dataset: Any, column: str) -> list[Any]:
    values: list[Any] = dataset.select_columns([column])[:][column]
    wrong = [value for value in values if not isinstance(value, (int, str))]
    if wrong:
        raise DataError(f"the column {column!r} holds {wrong[0]!r}; labels are whole numbers or names")
    return values


def _part(name: str, dataset: Any, image: str, label: str, classes: tuple[str, ...]) -> HuggingFacePart:
    import datasets

    for column in (image, label):
        if column not in dataset.features:
            raise InputError(f"the {name} split has no column {column!r}; known: {', '.join(dataset.features)}")
    values = _values(dataset, label)
    if getattr(dataset.features[label], "names", None) is None:
        number = {value: index for index, value in enumerate(classes)}
        unknown = sorted({str(value) for value in values} - set(number))
        if unknown:
            raise DataError(f"the {name} split has classes without training images: {listed(unknown)}")
        values = [number[str(value)] for value in values]
    raw = dataset.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    return HuggingFacePart(name, raw, image, np.asarray(values, np.int64))


def _unlabelled(part: HuggingFacePart) -> bool:
    """Return whether a split has no labels, like the test splits of competitions, which have -1."""
    return part.name != "train" and bool((part.labels == -1).all())
