"""Memory layout of tensors `[b h n d]` that are passed to C++ kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

TYPES = {
    torch.float32: 1,
    torch.bfloat16: 2,
    torch.uint8: 3,
    torch.bool: 3,
    torch.float64: 4,
    torch.int16: 5,
    torch.int32: 6,
}
"""The numbers of dtypes in `csrc/tensor.h`."""


class TensorArgument(ctypes.Structure):
    """A tensor of up to four dimensions as `csrc/tensor.h` reads it; all zeros if there is no tensor."""

    _fields_ = (
        ("at", ctypes.c_void_p),
        ("size", ctypes.c_int64 * 4),
        ("step", ctypes.c_int64 * 4),
        ("room", ctypes.c_int64),
        ("type", ctypes.c_int32),
    )


def argument(x: Tensor | None, places: tuple[int, ...] = (0, 1, 2, 3)) -> TensorArgument:
    """Describe `x`, which must stay alive as long as the result; dimensions of size one have stride 0.

    Args:
        places: which of images, heads, rows and columns the dimensions of `x` are.
    """
    if x is None:
        return TensorArgument()
    size, step = [1] * 4, [0] * 4
    for place, length, stride in zip(places, x.shape, x.stride(), strict=False):
        size[place], step[place] = length, 0 if length == 1 else stride
    room = x.untyped_storage().nbytes() // x.itemsize - x.storage_offset()
    on_cpu = x.device.type == "cpu"
    return TensorArgument(
        x.data_ptr() if on_cpu else None, (ctypes.c_int64 * 4)(*size), (ctypes.c_int64 * 4)(*step), room,
        TYPES.get(x.dtype, 0),
    )  # fmt: skip


def present(x: Tensor | None) -> Tensor | None:
    """Return `x`; None if it is absent or empty."""
    return x if x is not None and x.numel() else None


def rows(x: Tensor) -> Tensor:
    """Return `x` if its last dimension is contiguous, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def empty_heads_last(x: Tensor, wide_as: Tensor | None = None) -> Tensor:
    """Allocate `[b h n d]` like `x`, or with the width of another tensor, stored as `[b n h d]`."""
    (b, h, n, _), d = x.shape, (x if wide_as is None else wide_as).shape[-1]
    return x.new_empty((b, n, h, d)).transpose(1, 2)
