"""Key-value attention on GPUs: Triton kernels as PyTorch operators, in memory linear in n.

The forward pass keeps one number per row and, in half precision, the rounding error of the output: if a key attends
mostly to itself, its gradient is a small difference of `dY . Y` and `dY . v`. The backward pass (`triton_backward`)
computes each block of K K^T once, for its rows and its columns, since logits without biases are symmetric. Triton is
imported when the first kernel runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.kv import reference
from fewpairs.ops.kv.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.register import Operator, lazy_function, register
from fewpairs.ops.triton.refusal import refuse_arguments

LAUNCH = "fewpairs.ops.kv.triton_launch"


def refuse_triton(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> str | None:
    """Return the reason why the GPU kernels cannot run these arguments, or None."""
    if not k.shape[2]:
        return "there are no keys"
    if any(term is not None and term.device != k.device for term in (gain, key_bias, bias)):
        return "gain and biases must be on the device of the keys"
    return refuse_arguments((k, v), (k.shape[3], v.shape[3]), gain, key_bias, bias)


def run_triton(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Compute `[b h n d], [b h n e] -> [b h n e]`, differentiable once, in the dtype of autocast if enabled."""
    device = k.device.type
    if not k.is_meta and torch.is_autocast_enabled(device):
        k, v = k.to(torch.get_autocast_dtype(device)), v.to(torch.get_autocast_dtype(device))
    out: Tensor = torch.ops.fewpairs.kv_triton_forward(k, v, gain, key_bias, bias, float(scale))[0]
    return out


register(
    Operator(
        "kv_triton_forward(Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, float scale)"
        " -> (Tensor out, Tensor log_sum, Tensor rest)",
        lazy_function(LAUNCH, "forward"),
        empty_results,
    ),
    Operator(
        "kv_triton_backward(Tensor grad, Tensor k, Tensor v, Tensor? gain, Tensor? key_bias, Tensor? bias, Tensor out,"
        " Tensor log_sum, Tensor rest, float scale, bool bias_learns)"
        " -> (Tensor d_k, Tensor d_v, Tensor d_gain, Tensor d_key_bias, Tensor d_bias)",
        lazy_function(LAUNCH, "backward"),
        empty_gradients,
    ),
    reference=reference.kv_attention,
)
