"""What the Triton kernels of k-NN attention write, before it is written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.knn import blocks


def empty_results(q: Tensor, k: Tensor, v: Tensor, *_options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the output `[b h n e]`; then, `[b h n]` each, threshold, last key and the softmax's log-sum."""
    row, single = q.shape[:3], torch.float32
    return (
        q.new_empty((*row, v.shape[3])),
        q.new_empty(row, dtype=single),
        q.new_empty(row, dtype=torch.int32),
        q.new_empty(row, dtype=single),
    )


def empty_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Room for the gradients of q, k, v and the bias (of no elements where it does not learn)."""
    return blocks.empty_gradients(q, k, v, bias if options[-1] else None)
