"""TIFFs of several pages as scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.notes import Note
from fewpairs.data.pictures import read_picture
from fewpairs.errors import DataError

STACK = Note("stacks, scans of their pages, whose distance is taken as that of their pixels, 1 mm")


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
