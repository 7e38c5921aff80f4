"""PyTorch's fused attention, which has one derivative, with further ones from the reference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.ops.register import differentiable_gradients
from fewpairs.ops.softmax import reference
from fewpairs.ops.transforms import recorded


def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Compute `scaled_dot_product_attention`; `bias` is boolean or in the dtype of q."""
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    if not out.requires_grad or recorded():
        return out
    differentiable: Tensor = _SecondDerivative.apply(out, q, k, v, bias, scale)
    return differentiable


class _SecondDerivative(torch.autograd.Function):
    """Returns its first argument; if a gradient must be differentiable, it is taken past PyTorch's fused kernel."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.scale = scale
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not torch.is_grad_enabled():
            return grad, *[None] * 5
        values = dict(zip("qkv", ctx.saved_tensors[:3], strict=True))
        values |= {"bias": ctx.saved_tensors[3], "scale": ctx.scale}
        return None, *differentiable_gradients(reference.softmax_attention, values, ctx.needs_input_grad[1:], grad)
