"""Run-length encoding of masks in the format of the UW-Madison GI Tract competition.

The text holds `start length` pairs separated by blanks. Starts count from 1 along the image flattened row by row.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import DataError
from fewpairs.types import Size

_NUMBER = re.compile(r"[0-9]{1,18}")


def rle_encode(mask: NDArray[np.bool_]) -> str:
    """Encode a mask `[H W]` as `"start length start length ..."`; an empty mask gives an empty string."""
    flat = np.concatenate(([False], np.asarray(mask, dtype=bool).ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    return " ".join(f"{start} {length}" for start, length in zip(starts.tolist(), lengths.tolist(), strict=True))


def rle_decode(text: str, size: Size, *, where: str = "run-length encoding") -> NDArray[np.bool_]:
    """Decode `"start length ..."` to a mask `[H W]` of `size` (h, w).

    Args:
        where: the origin of the text (file, id, class), with which error messages begin.

    Raises:
        DataError: numbers do not form pairs or are not whole, or a run has length 0, leaves the image or overlaps an
            earlier run; the message names the pair.
    """
    words = text.split()
    pixels = size[0] * size[1]
    for position, word in enumerate(words):
        if not _NUMBER.fullmatch(word):
            pair = " ".join(words[position - position % 2 :][:2])
            raise DataError(
                f"{where}: {word!r} in the pair {pair!r} is not a whole number; expected 'start length ...'"
            )
    if len(words) % 2:
        raise DataError(f"{where}: the start {words[-1]!r} has no length; {len(words)} numbers do not form pairs")
    mask = np.zeros(pixels, dtype=bool)
    for begin, count in zip(words[::2], words[1::2], strict=True):
        start, length = int(begin), int(count)
        if length < 1:
            raise DataError(f"{where}: the pair '{begin} {count}' has no length; a run covers at least 1 pixel")
        if start < 1 or start - 1 + length > pixels:
            raise DataError(
                f"{where}: the pair '{begin} {count}' leaves the image; starts count from 1 and the {size[0]} rows of "
                f"{size[1]} pixels end at {pixels}"
            )
        run = mask[start - 1 : start - 1 + length]
        if run.any():
            raise DataError(f"{where}: the pair '{begin} {count}' overlaps an earlier run")
        run[:] = True
    return mask.reshape(size)
