"""k-NN attention on GPUs: Triton kernels as PyTorch operators, in memory linear in n and m.

Forward: one kernel finds where each row is cut (`triton_select`), a second weighs and sums the values of the keys
inside (`triton_mix`). Three numbers a row are kept. Backward (`triton_backward`): a kernel over queries, one over keys,
and one for a bias that learns; each makes the scores again. Triton is imported when the first of them runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.knn.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.register import Operator, lazy_function, register
from fewpairs.ops.triton.refusal import refuse_arguments

LAUNCH = "fewpairs.ops.knn.triton_launch"


def refuse_triton(
    q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str
) -> str | None:
    """Why the GPU kernels cannot run these arguments, or None."""
    if metric != "dot":
        return f"it chooses keys by their scores alone, not by metric={metric!r}"
    return refuse_arguments((q, k, v), (q.shape[3], v.shape[3]))


def run_triton(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """`[b h n d], [b h m d], [b h m e] -> [b h n e]`; once differentiable."""
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
    refusal="k-NN attention by Triton has no second derivative; call knn_attention with kernel='masked', which has",
)
