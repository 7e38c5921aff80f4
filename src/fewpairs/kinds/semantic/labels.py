"""Readers of label maps from mask files with numbers, with colours, or with zero and other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.pictures import read_colours, read_indices
from fewpairs.errors import DataError
from fewpairs.kinds.semantic.names import Colour
from fewpairs.types import IGNORE

Labels = NDArray[np.uint8]

_SHOWN = 8


@dataclass(frozen=True)
class NumberReading:
    """Reads masks whose stored numbers (8 or 16 bits, or palette indices) are classes or not scored.

    Attributes:
        table: class index, or `IGNORE`, of each stored number.
        classes: names of the classes, for messages.
    """

    table: Mapping[int, int]
    classes: Sequence[str]

    @classmethod
    def named(cls, numbers: Mapping[str, Sequence[int]], *, ignore: Sequence[int] = (IGNORE,)) -> NumberReading:
        """Read the stored numbers of each class; one that is also in `ignore` is that of the class."""
        table = {number: label for label, mine in enumerate(numbers.values()) for number in mine}
        return cls(dict.fromkeys(ignore, IGNORE) | table, tuple(numbers))

    @classmethod
    def plain(cls, classes: Sequence[str], *, ignore: int | None = IGNORE, shift: bool = False) -> NumberReading:
        """Read class indices from 0 on and `ignore`; with `shift`, class indices from 1 on, and 0 is not scored."""
        table = {number + shift: number for number in range(len(classes))}
        if shift:
            table[0] = IGNORE
        return cls(table if ignore is None else {ignore: IGNORE} | table, tuple(classes))

    def __call__(self, path: Path) -> Labels:
        """Read the labels `[H W]` uint8 of a mask file.

        Raises:
            DataError: the file is damaged or in colour, or has a number without a class; the message names it.
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
        known = sorted(number for number, label in self.table.items() if label != IGNORE)
        others = sorted(number for number, label in self.table.items() if label == IGNORE)
        unscored = f", and {', '.join(map(str, others[:_SHOWN]))} for pixels that are not scored" if others else ""
        in_a_row = known == list(range(known[0], known[0] + len(known)))
        labels = f"{known[0]} to {known[-1]}" if in_a_row else _numbers(known)
        hint = ""
        if known[0] == 0 and in_a_row and unknown.tolist() == [len(known)]:
            hint = "; if 0 is unlabelled and classes count from 1, set data.source.zero_is_ignored=true"
        raise DataError(
            f"{path} holds the label {_numbers(unknown)}, but the {len(self.classes)} classes have the labels "
            f"{labels}{unscored}; name all classes (data.source.classes), or the number that is not "
            f"scored (data.source.ignore){hint}"
        )


@dataclass(frozen=True)
class ColourReading:
    """Reads masks in which each colour is a class.

    Attributes:
        colours: colours of the classes, in the order of their indices.
    """

    colours: Sequence[Colour]

    def __call__(self, path: Path) -> Labels:
        """Read the labels `[H W]` uint8 of a mask file.

        Raises:
            DataError: the file is damaged or has a colour without a class; the message names file and colours.
        """
        red, green, blue = read_colours(path).astype(np.int32)
        codes = red << 16 | green << 8 | blue
        table = {_code(colour): index for index, colour in enumerate(self.colours)}
        known = np.array(sorted(table), np.int32)
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        strange = known[places] != codes
        if strange.any():
            found = [tuple(int(code) >> bits & 255 for bits in (16, 8, 0)) for code in np.unique(codes[strange])]
            more = " ..." if len(found) > _SHOWN else ""
            raise DataError(
                f"{path} holds the colour {', '.join(map(str, found[:_SHOWN]))}{more}, which has no class; name the "
                "colour of every class (data.source.colours), and store masks without loss"
            )
        return np.array([table[int(code)] for code in known], np.uint8)[places]


@dataclass(frozen=True)
class NonzeroReading:
    """Reads masks in which all values except 0 are the second of two classes, as with instance numbers or 0 and 255."""

    def __call__(self, path: Path) -> Labels:
        """Read labels `[H W]` uint8, 0 or 1. Raises DataError if the file is damaged or in colour."""
        return (read_indices(path) != 0).astype(np.uint8)


def _numbers(values: Sequence[Any] | NDArray[Any]) -> str:
    return ", ".join(str(int(value)) for value in values[:_SHOWN]) + (" ..." if len(values) > _SHOWN else "")


Reading = NumberReading | ColourReading | NonzeroReading


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
