"""How the C++ kernels want tensors `[b h n d]` to lie, how they are told, and how they leave results."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor


class TensorArgument(ctypes.Structure):
    """A tensor of up to four dimensions as `csrc/tensor.h` reads it; all zeros where there is none."""

    _fields_ = (("at", ctypes.c_void_p), ("step", ctypes.c_int64 * 4), ("is_half", ctypes.c_int32))


def argument(x: Tensor | None) -> TensorArgument:
    """Where `x` lies, which must live as long as the result; a dimension of size one is not stepped through."""
    if x is None:
        return TensorArgument()
    steps = (0 if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True))
    return TensorArgument(x.data_ptr(), (ctypes.c_int64 * 4)(*steps), x.dtype == torch.bfloat16)


def address(x: Tensor | None) -> int | None:
    """Where the numbers of a contiguous tensor lie; None, a null pointer, where there are none."""
    return x.data_ptr() if x is not None and x.numel() else None


def rows(x: Tensor) -> Tensor:
    """`x` itself where each row's columns lie side by side, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def empty_heads_last(x: Tensor, wide_as: Tensor | None = None) -> Tensor:
    """Room for a result `[b h n d]` like `x`, or as wide as another, in which a position's heads lie side by side."""
    (b, h, n, _), d = x.shape, (x if wide_as is None else wide_as).shape[-1]
    return x.new_empty((b, n, h, d)).transpose(1, 2)
