"""Passes tensors to Triton kernels and launches them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def padded(width: int) -> int:
    """Return the next power of two, at least 16 as tensor cores require."""
    return max(16, 1 << (width - 1).bit_length())


def blocks(length: int, size: int) -> int:
    """Return how many blocks of `size` cover `length`."""
    return -(-length // size)


def rows(x: Tensor) -> Tensor:
    """Return `x` if its last dimension is contiguous, else a copy."""
    return x if x.stride(-1) == 1 else x.contiguous()


def pairs(bias: Tensor | None, shape: tuple[int, int, int, int], stand_in: Tensor) -> tuple[Tensor, list[int], int]:
    """Return the bias `[#b #h n m]` as kernel arguments: data, its four strides (0 if shared), and its kind.

    Kinds are 0 (none; `stand_in` is passed instead), 1 (numbers) and 2 (True keeps the pair).
    """
    if bias is None:
        return stand_in, [0, 0, 0, 0], 0
    wide = bias.expand(shape)
    return (
        (bias.view(torch.uint8), list(wide.stride()), 2) if bias.dtype == torch.bool else (bias, list(wide.stride()), 1)
    )


def launch(kernel: Any, programs: int, like: Tensor, *args: Any, **options: Any) -> None:
    """Run `programs` instances on the device of `like`; none if there is no work.

    Multiplications and additions may be contracted, regardless of Triton's default; see `fewpairs.ops.triton.tiles`.
    """
    if programs:
        with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]  # PyTorch's own gap
            kernel[(programs,)](*args, enable_fp_fusion=True, **options)
