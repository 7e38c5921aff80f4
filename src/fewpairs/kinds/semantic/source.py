"""Data sets for semantic segmentation, independent of their layout on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.data.pictures import Header, read_header, read_image, turned_hint
from fewpairs.data.split import PARTS
from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.semantic.labels import Labels, NumberReading, Reading
from fewpairs.kinds.semantic.names import Colour, check_names, palette
from fewpairs.types import Size

_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image and the file of its label map."""

    id: str
    """The unique name of the image in the data set."""
    case: str
    """The unit that is independent of others: a patient, or the image itself."""
    image: Path
    mask: Path


class SemanticSource:
    """A data set: its classes, and the images of each of its parts.

    Args:
        name: name in messages.
        classes: names in the order of the labels.
        parts: the images of `train` and, if they exist, of `validation` and `test`.
        reading: converts a mask file to labels.
        colours: colours of the classes in label maps; None uses those of `palette`.
        named: whether the user named the classes, so that each of them must occur.
        notes: sentences on files that were left out.

    Raises:
        InputError: the class names are invalid.
        DataError: there are no training images.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        parts: Mapping[str, Sequence[ImageFiles]],
        reading: Reading,
        *,
        colours: Sequence[Colour] | None = None,
        named: bool = True,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.classes, self.reading = name, check_names(classes, name), reading
        self.named, self.notes = named, tuple(notes)
        self.parts = {part: tuple(parts[part]) for part in PARTS if parts.get(part)}
        self.colours = tuple(colours) if colours is not None else palette(len(self.classes))
        if "train" not in self.parts:
            raise DataError(f"{name} holds no training images")
        self._channels: int | None = None

    @property
    def values(self) -> tuple[tuple[int, ...], ...] | None:
        """The numbers of each class in the masks; None if they are read by colours or as zero and anything else."""
        if not isinstance(self.reading, NumberReading):
            return None
        table = self.reading.table.items()
        return tuple(tuple(number for number, label in table if label == place) for place in range(len(self.classes)))

    @property
    def channels(self) -> int:
        """1 if all of 64 sampled training images are grey, otherwise 3."""
        if self._channels is None:
            train = self.parts["train"]
            places = np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).round().astype(int))
            self._channels = max(read_header(train[place].image).channels for place in places)
        return self._channels

    def part(self, name: str) -> tuple[ImageFiles, ...]:
        """Return the images of a part.

        Raises:
            InputError: the data set has no such part.
        """
        if name not in self.parts:
            raise InputError(f"{self.name} has no part {name!r}; {nearest(name, self.parts)}")
        return self.parts[name]

    def read(self, files: ImageFiles) -> tuple[Image.Image, Labels]:
        """Read the image in mode L or RGB and its labels `[H W]` uint8, `IGNORE` for pixels without a class.

        Raises:
            DataError: a file is damaged, the sizes differ, or a label is not a class.
        """
        image, labels = read_image(files.image), self.reading(files.mask)
        if (image.height, image.width) != labels.shape:
            raise size_mismatch(files, read_header(files.image), (labels.shape[0], labels.shape[1]))
        return image, labels


def size_mismatch(files: ImageFiles, header: Header, mask: Size) -> DataError:
    """Create the error for an image with this header and a mask of another size (h, w)."""
    return DataError(
        f"{files.image} has {header.size[0]} rows of {header.size[1]} pixels, but its mask {files.mask} has {mask[0]} "
        f"of {mask[1]}{turned_hint(header, mask)}; both must have the same size"
    )
