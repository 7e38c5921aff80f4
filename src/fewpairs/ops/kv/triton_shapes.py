"""Empty results of the Triton kernels of key-value attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def empty_results(k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the output `[b h n e]`, the log-sum-exp of each row `[b h n]`, and the rounding error of the output.

    The last has the shape of the output, or is empty in float32. The log-sum-exps are in float64: large logits leave a
    float32 no digits for their weights.
    """
    rest = v.new_empty(0 if v.dtype == torch.float32 else v.shape)
    return v.new_empty(v.shape), k.new_empty(k.shape[:3], dtype=torch.float64), rest


def empty_gradients(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Allocate the gradients of keys, values, gain, key bias and bias; absent ones are empty."""
    nothing = (0,)
    return (
        k.new_empty(k.shape),
        v.new_empty(v.shape),
        k.new_empty(nothing) if gain is None else gain.new_empty(gain.shape),
        k.new_empty(nothing) if key_bias is None else key_bias.new_empty(key_bias.shape),
        bias.new_empty(bias.shape) if bias is not None and options[-1] else k.new_empty(nothing),
    )
