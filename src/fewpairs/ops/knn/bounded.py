"""k-NN attention in bounded memory: neither forward nor backward pass holds a tensor of n x m numbers.

Two PyTorch operators contain the loops of `fewpairs.ops.knn.blocks`, so that `torch.compile` sees one node and not the
loop. Beside inputs and output, three numbers per query and head are kept for the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.knn import blocks
from fewpairs.ops.knn.masked import run_masked
from fewpairs.ops.register import Operator, register
from fewpairs.ops.transforms import refuse_export


def refuse_bounded(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Return the reason why this kernel cannot run these arguments, or None."""
    return refuse_export(q, k, v, bias)


def run_bounded(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> Tensor:
    """Compute `[b h n d], [b h m d], [b h m e] -> [b h n e]`; it is differentiable once."""
    out: Tensor = torch.ops.fewpairs.knn_forward(q, k, v, bias, topk, float(scale), metric)[0]
    return out


register(
    Operator(
        "knn_forward(Tensor q, Tensor k, Tensor v, Tensor? bias, SymInt topk, float scale, str metric)"
        " -> (Tensor out, Tensor threshold, Tensor last, Tensor log_sum)",
        blocks.forward,
        lambda q, k, v, *_options: blocks.empty_results(q, k, v),
    ),
    Operator(
        "knn_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor threshold,"
        " Tensor last, Tensor log_sum, float scale, str metric, bool bias_learns)"
        " -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_bias)",
        blocks.backward,
        lambda _grad, q, k, v, bias, *options: blocks.empty_gradients(q, k, v, bias if options[-1] else None),
    ),
    reference=lambda q, k, v, bias, topk, scale, metric: run_masked(
        q, k, v, topk=topk, bias=bias, scale=scale, metric=metric
    ),
)
