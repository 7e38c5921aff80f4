"""Data sets of torchvision by name; nothing is downloaded without `download`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewpairs.data.pictures import damage
from fewpairs.errors import DataError, FewpairsError, InputError, nearest
from fewpairs.kinds.classification.source import Indices, LabelledSource, seen_channels

_BY_FLAG: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}


def _by_split(**names: str) -> dict[str, dict[str, Any]]:
    return {part: {"split": name} for part, name in names.items()}


SETS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "MNIST": _BY_FLAG,
    "FashionMNIST": _BY_FLAG,
    "KMNIST": _BY_FLAG,
    "USPS": _BY_FLAG,
    "CIFAR10": _BY_FLAG,
    "CIFAR100": _BY_FLAG,
    "SVHN": _by_split(train="train", test="test"),
    "STL10": _by_split(train="train", test="test"),
    "Food101": _by_split(train="train", test="test"),
    "StanfordCars": _by_split(train="train", test="test"),
    "GTSRB": _by_split(train="train", test="test"),
    "OxfordIIITPet": _by_split(train="trainval", test="test"),
    "Imagenette": _by_split(train="train", validation="val"),
    "Flowers102": _by_split(train="train", validation="val", test="test"),
    "FGVCAircraft": _by_split(train="train", validation="val", test="test"),
    "DTD": _by_split(train="train", validation="val", test="test"),
    "RenderedSST2": _by_split(train="train", validation="val", test="test"),
    "Country211": _by_split(train="train", validation="valid", test="test"),
    "EuroSAT": {"train": {}},
}
"""Supported data sets with the arguments that select their parts."""


class TorchvisionPart:
    """Part of a torchvision data set; ids are `train/17`."""

    def __init__(self, name: str, dataset: Any) -> None:
        self.name, self.dataset = name, dataset
        self.labels: Indices = _labels(dataset)

    def read(self, index: int) -> Image.Image:
        with damage(self.id(index)):
            image = self.dataset[index][0]
            return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")

    def id(self, index: int) -> str:
        return f"{self.name}/{index}"

    def file(self, index: int) -> None:
        return None


def open_torchvision(root: Path | str, *, name: str | None = None, download: bool = False) -> LabelledSource:
    """Open the torchvision data set `name`, such as `CIFAR10`, whose files are in `root`.

    Raises:
        InputError: the name is unknown, or files are missing and are not downloaded.
        DataError: torchvision cannot read the files.
    """
    import torchvision

    if name not in SETS:
        raise InputError(f"no torchvision data set name={name!r}; {nearest(name or '', SETS)}")
    kind = getattr(torchvision.datasets, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*non-writable|.*not writable", category=UserWarning)
        datasets = {part: _opened(kind, name, root, chosen, download) for part, chosen in SETS[name].items()}
    parts = {part: TorchvisionPart(part, dataset) for part, dataset in datasets.items()}
    classes = _classes(datasets["train"], parts["train"].labels)
    return LabelledSource(f"{name} in {root}", classes, parts, channels=seen_channels(parts["train"]))


def _opened(kind: Any, name: str, root: Path | str, chosen: Mapping[str, Any], download: bool) -> Any:
    from urllib.error import URLError

    try:
        return kind(root=str(root), download=download, **chosen)
    except FewpairsError:
        raise
    except (URLError, TimeoutError, ConnectionError) as error:
        raise InputError(
            f"torchvision could not download {name} ({error}); get its files by another way into {root}, "
            "in the folders that torchvision expects"
        ) from None
    except (RuntimeError, FileNotFoundError) as error:
        reason = re.sub(r"[.,]?\s*You can use download=True.*", "", " ".join(str(error).split()))
        remedy = "" if download else "; put them there, or let torchvision download them with download=true"
        raise InputError(f"the files of {name} are not whole in {root} ({reason}){remedy}") from None
    except Exception as error:  # each data set has a reader of its own, which raises what it meets in damaged files
        raise DataError(f"torchvision cannot read {name} in {root} ({type(error).__name__}: {error})") from None


def _labels(dataset: Any) -> Indices:
    """Return the labels without decoding images; torchvision keeps them under one of four names."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(dataset, attribute):
            return np.asarray(getattr(dataset, attribute), np.int64)
    return np.asarray([label for _, label in dataset._samples], np.int64)


def _classes(dataset: Any, labels: Indices) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if names is None:
        return tuple(str(value) for value in range(int(labels.max()) + 1))
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in names)
