"""Detection data sets, independent of their layout on disk: images in parts, and the objects in each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fewpairs.data.names import Names
from fewpairs.data.pictures import read_image
from fewpairs.data.split import PARTS
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.detection.annotation_issues import DetectionCheck
from fewpairs.kinds.detection.masks import decode_masks
from fewpairs.types import Objects, Size


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """The objects of all images, sorted by image, in arrays that loader processes share without a copy."""

    ends: NDArray[np.int64]
    """`[images + 1]`: the objects of image i are in rows `ends[i]` to `ends[i + 1] - 1`."""
    boxes: NDArray[np.float32]
    """`[o 4]` left, top, right, bottom in pixels."""
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]
    """px^2."""
    masks: Names | None
    """Packed runs of each object, empty for a damaged mask; None if the data set has boxes alone."""

    def rows(self, image: int) -> slice:
        """Return the rows of the objects of an image."""
        return slice(int(self.ends[image]), int(self.ends[image + 1]))


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One image of a data set; pixels and objects are read on access."""

    id: str
    """The path of its file below the image folder of its part; unique in the part."""
    file: Path
    size: Size
    """Height and width as stored, in pixels."""
    part: str
    number: int
    """COCO's image id if the layout has one, otherwise the position among all images, from 1."""
    row: int
    table: ObjectTable = field(repr=False)

    @property
    def count(self) -> int:
        """The number of objects, including crowds."""
        rows = self.table.rows(self.row)
        return rows.stop - rows.start

    @property
    def has_masks(self) -> bool:
        """Whether its objects have masks."""
        return self.table.masks is not None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels `[o]` of its objects."""
        return self.table.labels[self.table.rows(self.row)]

    def runs(self) -> list[str]:
        """Return the packed runs of its objects' masks, empty text for a damaged one.

        Raises:
            InputError: the data set has no masks.
        """
        if self.table.masks is None:
            raise InputError(f"{self.id}: its data set has boxes without masks; use masks=false")
        rows = self.table.rows(self.row)
        return [self.table.masks[index] for index in range(rows.start, rows.stop)]

    def objects(self, *, masks: bool = False) -> Objects:
        """Return its objects, in pixels of the stored image.

        `masks=True` includes masks `[o H W]` bool, and leaves out objects whose mask is damaged.

        Raises:
            InputError: `masks` is true and the data set has none.
        """
        found = self.table.rows(self.row)
        rows = np.arange(found.start, found.stop)
        runs = self.runs() if masks else []
        if masks:
            rows, runs = rows[[bool(one) for one in runs]], [one for one in runs if one]
        return Objects(
            torch.from_numpy(self.table.boxes[rows].copy()),
            torch.from_numpy(self.table.labels[rows].copy()),
            torch.from_numpy(decode_masks(runs, self.size)) if masks else None,
            torch.from_numpy(self.table.crowd[rows].copy()),
            torch.from_numpy(self.table.area[rows].copy()),
        )

    def read(self) -> Image.Image:
        """Read the image in mode L (grey) or RGB, as stored.

        Raises:
            DataError: it is damaged, or its size has changed since the data set was opened.
        """
        image = read_image(self.file)
        if (image.height, image.width) != self.size:
            raise DataError(
                f"{self.file} has {image.height} x {image.width} pixels, but its annotations are for {self.size[0]} x "
                f"{self.size[1]}"
            )
        return image


class AnnotatedImages(Sequence[AnnotatedImage]):
    """A selection of a source's images, which are created on access; `take` selects some of them."""

    def __init__(self, source: DetectionSource, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> AnnotatedImage:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self.source.record(int(self.rows[index]))

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return (self[index] for index in range(len(self)))

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> AnnotatedImages:
        """Select images by a bool array `[images]` or by indices."""
        return AnnotatedImages(self.source, self.rows[which])

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and objects of each image, as `PartIdentity.of` takes them."""
        table = self.source.table
        for image in self:
            rows = table.rows(image.row)
            parts = [part[rows].tobytes() for part in (table.boxes, table.labels, table.crowd, table.area)]
            parts += [runs.encode() for runs in image.runs()] if image.has_masks else []
            yield f"{image.part}/{image.id}", b" ".join(parts)

    def with_objects(self) -> AnnotatedImages:
        """Select the images with at least one object that is not a crowd."""
        table = self.source.table
        before = np.concatenate(([0], np.cumsum(~table.crowd)))
        return self.take((before[table.ends[1:]] - before[table.ends[:-1]] > 0)[self.rows])


@dataclass(frozen=True, slots=True)
class ImageTable:
    """The images of a source, in arrays."""

    ids: Names
    files: Names
    """Relative to the root."""
    sizes: NDArray[np.int64]
    """`[images 2]`, height and width."""
    parts: NDArray[np.int8]
    """`[images]`, indices into `PARTS`."""
    numbers: NDArray[np.int64]


class DetectionSource:
    """A detection data set.

    Args:
        root: the folder that files are relative to.
        classes: names in the order of the labels.
        category_ids: the category id of each class in results files.
        check: the issues found on opening.
        split: a sentence about the origin of the parts.

    Attributes:
        name: name in messages.
        parts: those of `train`, `validation` and `test` that have images.
        records: all images.
    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        images: ImageTable,
        table: ObjectTable,
        *,
        category_ids: Sequence[int] | None = None,
        check: DetectionCheck,
        split: str = "",
    ) -> None:
        self.name, self.root, self.classes, self.images, self.table = check.name, root, tuple(classes), images, table
        self.category_ids = tuple(category_ids or range(1, len(self.classes) + 1))
        self.check, self.split = check, split
        self.parts = tuple(name for index, name in enumerate(PARTS) if (images.parts == index).any())
        if not self.classes:
            raise DataError(f"{self.name} has no classes; a detection data set needs at least one")
        if not self.parts:
            raise DataError(f"{self.name} has no images")

    def __len__(self) -> int:
        return len(self.images.sizes)

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask."""
        return self.table.masks is not None

    @property
    def records(self) -> AnnotatedImages:
        """All images."""
        return AnnotatedImages(self, np.arange(len(self)))

    @property
    def category_of(self) -> dict[str, int]:
        """The category id of each class in results files."""
        return dict(zip(self.classes, self.category_ids, strict=True))

    def part(self, name: str) -> AnnotatedImages:
        """Return the images of a part.

        Raises:
            InputError: there is no such part, or it has no images.
        """
        if name not in self.parts:
            raise InputError(f"{self.name} has no part {name!r}; {nearest(name, self.parts)}")
        return AnnotatedImages(self, np.flatnonzero(self.images.parts == PARTS.index(name)))

    def record(self, row: int) -> AnnotatedImage:
        """Return image `row` of all images."""
        images = self.images
        size = (int(images.sizes[row, 0]), int(images.sizes[row, 1]))
        part, number = PARTS[int(images.parts[row])], int(images.numbers[row])
        return AnnotatedImage(images.ids[row], self.root / images.files[row], size, part, number, row, self.table)

    def counts(self, part: str) -> dict[str, int]:
        """Count the objects of each class in a part, without crowds."""
        counted = np.zeros(len(self.classes), np.int64)
        for row in self.part(part).rows:
            rows = self.table.rows(int(row))
            counted += np.bincount(self.table.labels[rows][~self.table.crowd[rows]], minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counted, strict=True)}

    def crowds(self, part: str) -> int:
        """Count the crowds in a part, which are ignored in training and scoring."""
        return sum(int(self.table.crowd[self.table.rows(int(row))].sum()) for row in self.part(part).rows)
