"""Overlapping class masks packed into one integer for each pixel: bit j is set where class j is present."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError

BitMask = NDArray[np.unsignedinteger[Any]]
"""`[... H W]`, unsigned; bit j = class j."""

MAX_CLASSES = 64


def bitmask_dtype(classes: int) -> np.dtype[Any]:
    """The smallest unsigned integer with a bit for each of `classes` classes.

    Raises:
        InputError: fewer than 1 or more than 64 classes.
    """
    if not 1 <= classes <= MAX_CLASSES:
        raise InputError(f"{classes} classes given; a data set holds 1 to {MAX_CLASSES}: leave out or merge classes")
    return next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if classes <= 8 * size)


def pack(masks: NDArray[np.bool_]) -> BitMask:
    """Masks `[... k H W]` -> bit mask `[... H W]`."""
    classes = masks.shape[-3]
    dtype = bitmask_dtype(classes)
    packed = np.zeros((*masks.shape[:-3], *masks.shape[-2:]), dtype)
    for j in range(classes):
        packed |= np.where(masks[..., j, :, :], dtype.type(1 << j), dtype.type(0))
    return packed


def unpack(packed: BitMask, classes: int) -> NDArray[np.bool_]:
    """Bit mask `[... H W]` -> masks `[... k H W]`, the inverse of `pack`."""
    bits = np.array([1 << j for j in range(classes)], packed.dtype).reshape(classes, 1, 1)
    return (packed[..., None, :, :] & bits) != 0


def from_labels(labels: NDArray[Any], values: tuple[tuple[int, ...], ...]) -> BitMask:
    """Convert a label map `[... H W]` to a bit mask `[... H W]`; bit j is set where the label is in `values[j]`."""
    dtype = bitmask_dtype(len(values))
    packed = np.zeros(labels.shape, dtype)
    for j, wanted in enumerate(values):
        inside = labels == wanted[0] if len(wanted) == 1 else np.isin(labels, wanted)
        packed |= np.where(inside, dtype.type(1 << j), dtype.type(0))
    return packed
