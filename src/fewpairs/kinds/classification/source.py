"""Labelled data sets independent of their layout: parts with images, and a class for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewpairs.data.files import listed
from fewpairs.data.split import PARTS
from fewpairs.errors import DataError, InputError, nearest

Indices = NDArray[np.int64]


class Part(Protocol):
    """The images of one part (training, validation or test) with their classes."""

    @property
    def labels(self) -> Indices:
        """`[images]` int64, indices into the classes of the data set."""
        ...

    def read(self, index: int) -> Image.Image:
        """Read an image in mode L (grey) or RGB. Raises DataError if it is damaged."""
        ...

    def id(self, index: int) -> str:
        """Return the name of an image, which is unique in the data set."""
        ...

    def file(self, index: int) -> Path | None:
        """Return the file that holds only this image; None if there is none."""
        ...


class LabelledSource:
    """Labelled data set, whose images are numbered from 0 through all parts.

    Args:
        name: name of the data set in messages.
        classes: names in the order of the labels.
        parts: `train` and, if they exist, `validation` and `test`.
        channels: 1 if the images are grey, 3 if they are in colour.
        notes: sentences on files that were left out.

    Raises:
        DataError: there are fewer than two classes, a class has no training images, or a label is out of range.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        parts: Mapping[str, Part],
        *,
        channels: int,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.classes, self.channels, self.notes = name, tuple(classes), channels, tuple(notes)
        self.parts = {part: parts[part] for part in PARTS if part in parts}
        self.labels: Indices = np.concatenate([part.labels for part in self.parts.values()]).astype(np.int64)
        self._ends = np.cumsum([0, *(len(part.labels) for part in self.parts.values())])
        self._check()

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, part: str) -> Indices:
        """Return the indices of the images of a part.

        Raises:
            InputError: the data set has no such part.
        """
        if part not in self.parts:
            raise InputError(f"{self.name} has no part {part!r}; {nearest(part, self.parts)}")
        place = list(self.parts).index(part)
        return np.arange(self._ends[place], self._ends[place + 1], dtype=np.int64)

    def read(self, index: int) -> Image.Image:
        """Read image `index` in mode L (grey) or RGB.

        Raises:
            DataError: the image is damaged.
        """
        part, place = self._place(index)
        return part.read(place)

    def label(self, index: int) -> int:
        """Return the class of an image as an index into `classes`."""
        return int(self.labels[index])

    def id(self, index: int) -> str:
        """Return the name of an image, which is unique in the data set."""
        part, place = self._place(index)
        return part.id(place)

    def file(self, index: int) -> Path | None:
        """Return the file that holds only this image; None if there is none."""
        part, place = self._place(index)
        return part.file(place)

    def counts(self, part: str) -> dict[str, int]:
        """Count the images of each class in a part."""
        found = np.bincount(self.labels[self.indices(part)], minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, found, strict=True)}

    def _place(self, index: int) -> tuple[Part, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right")) - 1
        return list(self.parts.values())[number], int(index - self._ends[number])

    def _check(self) -> None:
        if len(self.classes) < 2:
            raise DataError(
                f"{self.name} has {len(self.classes)} class{'' if len(self.classes) == 1 else 'es'} "
                f"({', '.join(self.classes)}); classification needs at least two"
            )
        if self.labels.size and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"{self.name}: labels run from {self.labels.min()} to {self.labels.max()}, but there are "
                f"{len(self.classes)} classes, numbered from 0"
            )
        if "train" in self.parts:
            empty = [name for name, count in self.counts("train").items() if count == 0]
            if empty:
                raise DataError(f"{self.name}: no training image of {listed(empty)}")


def seen_channels(part: Part, looked_at: int = 8) -> int:
    """Return 3 if any of a few images, spread over the part, is in colour, else 1; damaged images are skipped."""
    for index in np.unique(np.linspace(0, len(part.labels) - 1, looked_at).astype(int)):
        try:
            if part.read(int(index)).mode == "RGB":
                return 3
        except DataError:
            continue
    return 1
