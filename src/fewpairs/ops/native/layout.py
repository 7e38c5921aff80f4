"""How the C++ kernels want tensors `[b h n d]` to lie, and how they leave them."""

from __future__ import annotations

from torch import Tensor


def rows(x: Tensor) -> Tensor:
    """`x` itself where each row's columns lie side by side, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def side_by_side(x: Tensor, wide_as: Tensor | None = None) -> Tensor:
    """Room for a result `[b h n d]` like `x`, or as wide as another, in which a position's heads lie side by side."""
    (b, h, n, _), d = x.shape, (x if wide_as is None else wide_as).shape[-1]
    return x.new_empty((b, n, h, d)).transpose(1, 2)
