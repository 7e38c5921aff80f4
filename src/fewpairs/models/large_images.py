"""Work on images that are too large for several copies in memory: bands of rows, and windows from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.types import Size

LARGE = 2**24
"""Number of pixels above which an image is worked on in parts: 4,096 squared."""
_BAND = 2**21
"""Number of pixels of a band."""


def is_large(size: Size) -> bool:
    """Return whether an image of `size` (h, w) is worked on in parts."""
    return size[0] * size[1] > LARGE


def bands(size: Size) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band of an image of `size` (h, w) and the row after its last."""
    rows = max(1, _BAND // size[1]) if is_large(size) else size[0]
    for top in range(0, size[0], rows):
        yield top, min(top + rows, size[0])


def resized_rows(image: Tensor, size: Size, top: int, bottom: int) -> Tensor:
    """Return the rows from `top` to before `bottom` of `[... h w]` resized to `size`, bilinearly without antialiasing.

    They are those of `F.interpolate`, which is used for all rows, up to rounding.
    """
    if (top, bottom) == (0, size[0]):
        return F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    height = image.shape[-2]
    places = torch.arange(top, bottom, dtype=torch.float32, device=image.device)
    places = ((places + 0.5) * (height / size[0]) - 0.5).clamp(min=0)
    above = places.long()
    below = (above + 1).clamp(max=height - 1)
    share = (places - above).view(-1, 1)
    first, last = int(above[0]), int(below[-1])
    across = F.interpolate(
        image[..., first : last + 1, :], size=(last + 1 - first, size[1]), mode="bilinear", align_corners=False
    )
    return across[..., above - first, :] * (1 - share) + across[..., below - first, :] * share


def shrunk(read: Callable[[int, int], Tensor], native: Size, size: Size) -> Tensor:
    """Shrink a large image of `native` size to `[... h w]` of `size`, bilinearly with antialiasing.

    `read(top, bottom)` returns rows `[b c rows W]` of it. The result is that of `F.interpolate`, which also goes along
    the rows first.
    """
    parts = [_antialiased(read(top, bottom), (bottom - top, size[1])) for top, bottom in bands(native)]
    return _antialiased(torch.cat(parts, dim=-2), size)


def _antialiased(image: Tensor, size: Size) -> Tensor:
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def slide(
    segment: Callable[[list[tuple[int, int]]], Tensor],
    size: Size,
    window: Size,
    step: Size,
    *,
    at_once: int,
    weight: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Slide windows over an image and yield the average of their logits in bands, from top to bottom.

    Only the rows that unfinished windows cover are held. Windows are cut to the size of a smaller image; the last ones
    end at its sides.

    Args:
        segment: upper left corners of up to `at_once` windows -> their logits `[windows*b k h w]`, window by window.
        size, window, step: height and width of image and windows, and the distances between them.
        weight: `[h w]`, weights of the pixels of a window in the average; None weighs all alike.

    Yields:
        the first row of a band and its logits `[b k rows W]`.
    """
    sides = min(size[0], window[0]), min(size[1], window[1])
    corners = list(product(starts(size[0], sides[0], step[0]), starts(size[1], sides[1], step[1])))
    total = weights = None
    first = 0
    for start in range(0, len(corners), at_once):
        several = corners[start : start + at_once]
        logits = segment(several).float()
        rows = several[-1][0] + sides[0] - first
        if total is None or weights is None:
            total = logits.new_zeros((len(logits) // len(several), logits.shape[1], rows, size[1]))
            weights = logits.new_zeros((rows, size[1]))
        total, weights = (F.pad(held, (0, 0, 0, rows - held.shape[-2])) for held in (total, weights))
        for (top, left), part in zip(several, logits.split(len(total)), strict=True):
            place = ..., slice(top - first, top - first + sides[0]), slice(left, left + sides[1])
            total[place] += part if weight is None else part * weight
            weights[place] += 1 if weight is None else weight
        done = corners[start + at_once][0] if start + at_once < len(corners) else size[0]
        if done > first:
            ready = done - first
            yield first, total[..., :ready, :] / weights[:ready]
            total, weights, first = total[..., ready:, :].clone(), weights[ready:].clone(), done


def starts(length: int, window: int, step: int) -> list[int]:
    """Return where windows begin along one side; the last one ends at the side's end."""
    return sorted({*range(0, length - window, step), length - window})
