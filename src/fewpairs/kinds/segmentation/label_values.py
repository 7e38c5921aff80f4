"""Label numbers of the classes, as files store them: from settings or a table to bit masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import check_classes
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import BitMask, bitmask_dtype, from_labels

IGNORED = "ignore"
"""Name of the label whose voxels are neither trained on nor scored, as in nnU-Net; it is no class."""

Labels = Mapping[str, int | Sequence[int]]
"""The label value or values of each class name; a value may belong to several (overlapping) classes."""

Values = tuple[tuple[int, ...], ...]
"""The label values of each class."""


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The classes of a data set with their label values; 0 is background."""

    classes: tuple[str, ...]
    values: Values
    ignored: tuple[int, ...] = ()
    """Values of voxels that are neither trained on nor scored."""

    @classmethod
    def of(cls, given: Sequence[str] | Labels) -> Self:
        """Make them from names in the order of the labels 1, 2, ..., or from a mapping of names to values.

        The name `ignore`, in lower or upper case, is that of voxels that are neither trained on nor scored.

        Raises:
            InputError: names are missing, empty or repeated, or values are not whole numbers other than 0.
        """
        if not isinstance(given, Mapping):
            given = {name: number for number, name in enumerate(check_classes(given), start=1)}
        numbers = {name: _whole(name, value) for name, value in given.items()}
        ignored = tuple(value for name, values in numbers.items() if name.lower() == IGNORED for value in values)
        kept = {name: values for name, values in numbers.items() if name.lower() != IGNORED}
        shared = next((name for name, values in kept.items() if set(values) & set(ignored)), None)
        if shared is not None:
            raise InputError(f"class {shared!r} and {IGNORED!r} share a label value; give each its own")
        return cls(check_classes(kept), tuple(kept.values()), ignored)

    def __str__(self) -> str:
        named = dict(zip(self.classes, self.values, strict=True)) | ({IGNORED: self.ignored} if self.ignored else {})
        shown = (f"{name}={values[0] if len(values) == 1 else list(values)}" for name, values in named.items())
        return ", ".join(("background=0", *shown))

    def mask(self, labels: NDArray[Any], where: str, remedy: str | None) -> BitMask:
        """Convert label numbers `[... H W]` to a bit mask; after the bits of the classes comes that of ignored voxels.

        Args:
            where: name of the file in messages.
            remedy: end of the message about labels of no class; None counts them as background.

        Raises:
            DataError: a label belongs to no class.
        """
        known = {0, *self.ignored, *(value for values in self.values for value in values)}
        unknown = [] if remedy is None else [value for value in np.unique(labels).tolist() if value not in known]
        if unknown:
            shown = ", ".join(f"{value:g}" for value in unknown[:10])
            several = "s" if len(unknown) > 1 else ""
            raise DataError(f"{where} holds the label{several} {shown} outside the classes ({self}); {remedy}")
        return from_labels(labels, (*self.values, self.ignored) if self.ignored else self.values)


def in_order(values: Values) -> bool:
    """Return whether the classes have the labels 1, 2, ... in this order."""
    return values == tuple((label,) for label in range(1, len(values) + 1))


def class_bits(mask: BitMask, classes: int) -> BitMask:
    """Return the bits of the classes alone, without that of ignored voxels."""
    return mask & mask.dtype.type((1 << classes) - 1)


def ignored_voxels(mask: BitMask, classes: int) -> NDArray[np.bool_]:
    """Return where a bit mask `[... H W]` marks voxels that are neither trained on nor scored."""
    return (mask & mask.dtype.type(1 << classes)) != 0


def mask_dtype(classes: int, *, ignores: bool) -> np.dtype[Any]:
    """Return the type of bit masks for `classes` and, if any voxel may be ignored, one bit more."""
    return bitmask_dtype(classes + ignores)


def _whole(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    several = (given,) if isinstance(given, int) else () if isinstance(given, str) else tuple(given)
    wrong = [value for value in several if isinstance(value, bool) or not isinstance(value, int) or value == 0]
    if not several or wrong or len(set(several)) != len(several):
        raise InputError(f"class {name!r}: labels are whole numbers other than 0 (background), got {given!r}")
    return several
