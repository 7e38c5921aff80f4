"""Softmax attention, written out: the specification of `fewpairs.ops.softmax_attention`."""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor


def weights(scores: Tensor) -> Tensor:
    """Turn `[b h n m]` scores into weights that sum to 1 over `m`; rows with only -inf get weights 0."""
    highest = scores.amax(dim=-1, keepdim=True).detach()
    raised = torch.exp(scores - torch.where(highest.isinf(), torch.zeros_like(highest), highest))
    total = raised.sum(dim=-1, keepdim=True)
    return raised / total.masked_fill(total == 0, 1.0)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, scale: float) -> Tensor:
    """Compute `[b h n d], [b h m d], [b h m e] -> [b h n e]`."""
    scores = einsum(q, k, "b h n d, b h m d -> b h n m") * scale
    if bias is not None:
        scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.to(scores.dtype)
    return einsum(weights(scores), v, "b h n m, b h m e -> b h n e")
