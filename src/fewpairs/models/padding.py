"""Padding of images to whole patches, and the way back to their size, in eager mode and in recorded graphs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.ops.transforms import recorded
from fewpairs.types import Size


def pad_to_multiple(image: Tensor, stride: int) -> Tensor:
    """`[b c H W]` -> the same with H and W rounded up to multiples of `stride`; the edge is repeated.

    A graph that is being recorded always pads, by nothing where the sizes fit, so that it holds for every size.
    """
    height, width = image.shape[-2:]
    below, right = -height % stride, -width % stride
    return F.pad(image, (0, right, 0, below), mode="replicate") if recorded() or below or right else image


def missing(side: Any, least: int) -> Any:
    """Return how many pixels a side lacks; `torch.jit.trace` gives it as a tensor, other recorders as a symbol."""
    return (least - side).clamp(min=0) if isinstance(side, Tensor) else torch.sym_max(0, least - side)


def resize_and_crop(logits: Tensor, size: Size, stride: int) -> Tensor:
    """`[b k h w]` of the padded image -> `[b k H W]` of the image: bilinear to the padded size, then a crop."""
    height, width = size
    padded = (height + -height % stride, width + -width % stride)
    if recorded() or logits.shape[-2:] != padded:  # to its own size it is the identity
        logits = F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)
    return crop(logits, height, width)


def crop(maps: Tensor, height: int, width: int) -> Tensor:
    """`[b k h w]` -> the upper left `[b k height width]`.

    A slice would tie an exported graph to sizes that are cropped, or to those that are not.
    """
    if recorded():
        return F.pad(maps, (0, width - maps.shape[-1], 0, height - maps.shape[-2]))
    return maps[..., :height, :width]
