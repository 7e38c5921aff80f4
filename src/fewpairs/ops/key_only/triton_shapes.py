"""Empty results of the Triton kernels of key-only attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def empty_results(k: Tensor, v: Tensor, saliency: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate the output, the pooled value `[b h d]`, and the log-sum-exp `[b h 1]` or `[b h d]`."""
    b, h, _, d = k.shape
    return (
        v.new_empty(v.shape),
        v.new_empty((b, h, d), dtype=torch.float32),
        v.new_empty((b, h, d if saliency.ndim == 4 else 1), dtype=torch.float64),
    )


def empty_gradients(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    mask: Tensor | None,
    gate: Tensor | None,
    pooled: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the gradients of keys, values, saliency and gate (empty if the keys are the gate)."""
    d_gate = k.new_empty(0) if gate is None else gate.new_empty(gate.shape)
    return k.new_empty(k.shape), v.new_empty(v.shape), saliency.new_empty(saliency.shape), d_gate
