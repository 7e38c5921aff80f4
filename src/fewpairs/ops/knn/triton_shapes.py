"""Empty results of the Triton kernels of k-NN attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.knn import blocks


def empty_results(q: Tensor, k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the output `[b h n e]`, and threshold, last key and log-sum-exp as `[b h n]` each.

    The latter in float64: large logits leave a float32 no digits for their weights.
    """
    row = q.shape[:3]
    return (
        q.new_empty((*row, v.shape[3])),
        q.new_empty(row, dtype=torch.float32),
        q.new_empty(row, dtype=torch.int32),
        q.new_empty(row, dtype=torch.float64),
    )


def empty_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the gradients of q, k, v and the bias (empty if it needs none)."""
    return blocks.empty_gradients(q, k, v, bias if options[-1] else None)
