"""Layers that the decoders share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.ops.transforms import recorded

Norm = Literal["batch", "group"]
"""Which normalisation follows a decoder's convolutions. Group norm does not depend on the batch, so that small batches
and data-parallel runs agree; the papers use batch norm."""


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Batch norm, or group norm with groups of 4 channels, 32 groups at most.

    Groups of 8 leave a decoder's narrow last layers with two, which learn small organs many times more slowly.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 4))), channels)
    raise InputError(f"norm={kind!r} is not known; allowed: 'batch', 'group'")


def conv_norm_relu(channels: int, width: int, kernel: int, norm: Norm) -> nn.Sequential:
    """`[b c h w] -> [b width h w]`: convolution without bias, normalisation, ReLU."""
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, normalisation(norm, width), nn.ReLU(inplace=True))


def token_norm(channels: int) -> nn.Module:
    """Layer norm over the channels at every position; each head of SETR begins with it."""
    return LayerNorm2d(channels, eps=1e-6)


def upsample(x: Tensor, factor: int, *, align_corners: bool = False) -> Tensor:
    """`[b c h w] -> [b c factor*h factor*w]`, bilinear."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def doublings(stride: int) -> int:
    """Return how many times a map at `stride` pixels must be doubled to reach full size.

    Raises:
        InputError: the stride is not a power of two of at least 2.
    """
    if stride < 2 or stride & (stride - 1):
        raise InputError(f"a decoder that doubles needs an encoder stride that is a power of two, not {stride}")
    return stride.bit_length() - 1


def check_features(channels: Sequence[int], strides: Sequence[int]) -> None:
    """Raise InputError unless there is one stride for each feature, finest first."""
    if not channels or len(channels) != len(strides) or list(strides) != sorted(strides):
        raise InputError(f"an encoder must give as many channels as strides, finest first; got {channels}, {strides}")


def to_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps that are one position too large after doubling (if the coarsest stride does not divide the image).

    A recorded graph always resizes, which to a map's own size is the identity, so that it holds for every size.
    """
    if not recorded() and x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
