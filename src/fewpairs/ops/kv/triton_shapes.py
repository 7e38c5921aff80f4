"""What the Triton kernels of key-value attention write, before it is written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def empty_results(k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the output `[b h n e]`, the logarithm of each row's softmax sum `[b h n]`, and what rounding took.

    The last is as the output, or of no elements in float32.
    """
    rest = v.new_empty(0 if v.dtype == torch.float32 else v.shape)
    return v.new_empty(v.shape), k.new_empty(k.shape[:3], dtype=torch.float32), rest


def empty_gradients(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of keys, values, gain, key bias and bias; of no elements where there is none."""
    nothing = (0,)
    return (
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        k.new_empty(nothing) if gain is None else gain.new_empty(gain.shape),
        k.new_empty(nothing) if key_bias is None else key_bias.new_empty(key_bias.shape),
        bias.new_empty(bias.shape) if bias is not None and options[-1] else k.new_empty(nothing),
    )
