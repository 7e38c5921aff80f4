"""k-NN attention on GPUs: Triton kernels as PyTorch operators, in memory linear in n and m.

Forward: one kernel finds the cut of each row (`triton_select`), a second computes the weighted sum of the kept values
(`triton_mix`). Three numbers per row are kept. Backward (`triton_backward`): one kernel runs over queries, one over
keys, one for a trainable bias; each computes the scores again. Triton is imported when the first of them runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.knn.masked import run_masked
from fewpairs.ops.knn.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.register import Operator, lazy_function, register
from fewpairs.ops.triton.refusal import refuse_arguments

LAUNCH = "fewpairs.ops.knn.triton_launch"


def refuse_triton(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Return the reason why the GPU kernels cannot run these arguments, or None."""
    if metric != "dot":
        return f"it selects keys by score, not by metric={metric!r}"
    return refuse_arguments((q, k, v), (q.shape[3], v.shape[3]), bias)


def run_triton(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """Compute `[b h n d], [b h m d], [b h m e] -> [b h n e]`; it is differentiable once."""
    out: Tensor = torch.ops.fewpairs.knn_triton_forward(q, k, v, bias, topk, float(scale))[0]
    return out


register(
    Operator(
        "knn_triton_forward(Tensor q, Tensor k, Tensor v, Tensor? bias, SymInt topk, float scale)"
        " -> (Tensor out, Tensor threshold, Tensor last, Tensor log_sum)",
        lazy_function(LAUNCH, "forward"),
        empty_results,
    ),
    Operator(
        "knn_triton_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor threshold,"
        " Tensor last, Tensor log_sum, float scale, bool bias_learns)"
        " -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_bias)",
        lazy_function(LAUNCH, "backward"),
        empty_gradients,
    ),
    reference=lambda q, k, v, bias, topk, scale: run_masked(q, k, v, topk=topk, bias=bias, scale=scale, metric="dot"),
)
