"""Label maps out of mask files: numbers, colours, or everything that is not zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.pictures import read_indices, read_picture
from fewpairs.errors import DataError
from fewpairs.kinds.semantic.names import Colour
from fewpairs.types import IGNORE

Labels = NDArray[np.uint8]

_SHOWN = 8


@dataclass(frozen=True)
class NumberReading:
    """Stored numbers, of 8 or 16 bits or places in a palette, each of which is a class or not scored.

    Attributes:
        table: stored number -> class index, or `IGNORE`.
        classes: their names, for messages.
    """

    table: Mapping[int, int]
    classes: Sequence[str]

    @classmethod
    def plain(cls, classes: Sequence[str], *, ignore: int | None = IGNORE, shift: bool = False) -> NumberReading:
        """Class indices from 0 on and `ignore`, or, with `shift`, from 1 on and 0 for what is not scored."""
        table = {number + shift: number for number in range(len(classes))}
        if shift:
            table[0] = IGNORE
        return cls(table if ignore is None else {ignore: IGNORE} | table, tuple(classes))

    def __call__(self, path: Path) -> Labels:
        """`[H W]` uint8 labels of a mask file.

        Raises:
            DataError: a damaged file, one in colour, or a number that is no class; file and numbers are named.
        """
        numbers = read_indices(path)
        if numbers.dtype.kind not in "ui" or int(numbers.max(initial=0)) > 65535 or int(numbers.min(initial=0)) < 0:
            raise DataError(f"{path} holds numbers of the type {numbers.dtype}; label maps have 8 or 16 bits")
        table = np.full(max(256, int(numbers.max(initial=0)) + 1), -1, np.int16)
        for number, label in self.table.items():
            if 0 <= number < len(table):
                table[number] = label
        labels = table[numbers]
        if (labels < 0).any():
            self._refuse(path, np.unique(numbers[labels < 0]))
        return labels.astype(np.uint8)

    def _refuse(self, path: Path, unknown: NDArray[Any]) -> None:
        listed = ", ".join(str(int(value)) for value in unknown[:_SHOWN]) + (" ..." if len(unknown) > _SHOWN else "")
        known = sorted(number for number, label in self.table.items() if label != IGNORE)
        others = sorted(number for number, label in self.table.items() if label == IGNORE)
        unscored = f", and {', '.join(map(str, others[:_SHOWN]))} for what is not scored" if others else ""
        raise DataError(
            f"{path} holds the label {listed}, but the {len(self.classes)} classes have the labels "
            f"{known[0]} to {known[-1]}{unscored}; name all classes (data.source.classes), or the number that is not "
            "scored (data.source.ignore)"
        )


@dataclass(frozen=True)
class ColourReading:
    """Colours, each of which is a class.

    Attributes:
        colours: of the classes, in the order of their indices.
    """

    colours: Sequence[Colour]

    def __call__(self, path: Path) -> Labels:
        """`[H W]` uint8 labels of a mask file.

        Raises:
            DataError: a damaged file, or a colour that is no class; file and colours are named.
        """
        pixels = read_picture(path)
        if pixels.dtype != np.uint8:
            raise DataError(f"{path} has {8 * pixels.dtype.itemsize} bits a colour; colour-coded masks have 8")
        red, green, blue = (pixels[min(place, len(pixels) - 1)].astype(np.int32) for place in range(3))
        codes = red << 16 | green << 8 | blue
        table = {_code(colour): index for index, colour in enumerate(self.colours)}
        known = np.array(sorted(table), np.int32)
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        strange = known[places] != codes
        if strange.any():
            found = [tuple(int(code) >> bits & 255 for bits in (16, 8, 0)) for code in np.unique(codes[strange])]
            more = " ..." if len(found) > _SHOWN else ""
            raise DataError(
                f"{path} holds the colour {', '.join(map(str, found[:_SHOWN]))}{more}, which is no class's; name the "
                "colour of every class (data.source.colours), and store masks without loss"
            )
        return np.array([table[int(code)] for code in known], np.uint8)[places]


@dataclass(frozen=True)
class NonzeroReading:
    """Everything but 0 is the second of two classes: masks that number their instances, or that hold 0 and 255."""

    def __call__(self, path: Path) -> Labels:
        """`[H W]` uint8, 0 or 1. DataError for a damaged file or one in colour."""
        return (read_indices(path) != 0).astype(np.uint8)


Reading = NumberReading | ColourReading | NonzeroReading


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
