"""Memory layout of tensors `[b h n d]` that are passed to C++ kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


class TensorArgument(ctypes.Structure):
    """A tensor of up to four dimensions as `csrc/tensor.h` reads it; all zeros if there is no tensor."""

    _fields_ = (("at", ctypes.c_void_p), ("step", ctypes.c_int64 * 4), ("is_half", ctypes.c_int32))


def argument(x: Tensor | None) -> TensorArgument:
    """Describe `x`, which must stay alive as long as the result; dimensions of size one have stride 0."""
    if x is None:
        return TensorArgument()
    steps = (0 if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True))
    return TensorArgument(x.data_ptr(), (ctypes.c_int64 * 4)(*steps), x.dtype == torch.bfloat16)


def address(x: Tensor | None) -> int | None:
    """Return the data pointer of a contiguous tensor; None (a null pointer) if it is absent or empty."""
    return x.data_ptr() if x is not None and x.numel() else None


def rows(x: Tensor) -> Tensor:
    """Return `x` if its last dimension is contiguous, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def empty_heads_last(x: Tensor, wide_as: Tensor | None = None) -> Tensor:
    """Allocate `[b h n d]` like `x`, or with the width of another tensor, stored as `[b n h d]`."""
    (b, h, n, _), d = x.shape, (x if wide_as is None else wide_as).shape[-1]
    return x.new_empty((b, n, h, d)).transpose(1, 2)
