"""Key-only attention on GPUs: Triton kernels as PyTorch operators (see `triton_kernels`), imported when the first runs.

Beside inputs and output, one vector and one number per head are kept for the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.key_only import reference
from fewpairs.ops.key_only.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.register import Operator, lazy_function, register
from fewpairs.ops.triton.refusal import refuse_arguments

LAUNCH = "fewpairs.ops.key_only.triton_launch"


def refuse_triton(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> str | None:
    """Return the reason why the GPU kernels cannot run these arguments, or None."""
    if any(term is not None and term.device != k.device for term in (saliency, mask, gate)):
        return "saliency, mask and gate must be on the device of the keys"
    return refuse_arguments((k, v), (k.shape[3],), saliency, mask, gate)


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """Compute `reference.key_only_attention`; it is differentiable once."""
    out: Tensor = torch.ops.fewpairs.key_only_triton_forward(k, v, saliency, mask, gate)[0]
    return out


register(
    Operator(
        "key_only_triton_forward(Tensor k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate)"
        " -> (Tensor out, Tensor pooled, Tensor log_sum)",
        lazy_function(LAUNCH, "forward"),
        empty_results,
    ),
    Operator(
        "key_only_triton_backward(Tensor grad, Tensor k, Tensor v, Tensor saliency, Tensor? mask, Tensor? gate,"
        " Tensor pooled, Tensor log_sum) -> (Tensor d_k, Tensor d_v, Tensor d_saliency, Tensor d_gate)",
        lazy_function(LAUNCH, "backward"),
        empty_gradients,
    ),
    reference=reference.key_only_attention,
)
