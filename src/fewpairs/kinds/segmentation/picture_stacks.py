"""TIFFs of several pages as scans, and the distances of slices and pixels that pictures do not record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.notes import Note
from fewpairs.data.pictures import read_picture
from fewpairs.errors import DataError, InputError
from fewpairs.types import Spacing

MILLIMETRE: Spacing = (1.0, 1.0, 1.0)
"""Spacing of pictures of which none is known."""
STACK = Note("stacks, scans of their pages, whose distance is taken as that of their pixels, 1 mm")


def check_spacing(spacing: Sequence[float]) -> Spacing:
    """Return the spacing of pictures. Raises InputError unless it is three positive numbers."""
    if len(spacing) != 3 or not all(math.isfinite(length) and length > 0 for length in spacing):
        raise InputError(
            f"spacing={list(spacing)}: give the distances of slices, rows and columns in mm, "
            "three positive numbers such as [3, 0.5, 0.5]"
        )
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def stack_ids(name: str, pages: int) -> tuple[str, ...]:
    """Return the ids of the slices of a stack."""
    return tuple(f"{name}_slice_{number:04d}" for number in range(1, pages + 1))


def read_slices(path: Path, pages: int) -> NDArray[Any]:
    """Read the pages of a picture file as the slices `[s c H W]` of a scan.

    Raises:
        DataError: the file is damaged, or its pages differ in size, channels or depth.
    """
    first, *others = (read_picture(path, page) for page in range(pages))
    for number, other in enumerate(others, start=2):
        if (other.shape, other.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"page {number} of {path} has the shape {other.shape} and type {other.dtype}, but its first page "
                f"{first.shape} and {first.dtype}; a stack has pages of one kind"
            )
    return np.stack([first, *others])
