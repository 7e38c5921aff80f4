"""Key-only attention, written out: the specification of `fewpairs.ops.key_only`."""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor


def saliency_weights(k: Tensor, saliency: Tensor, mask: Tensor | None) -> Tensor:
    """`[b h n 1]`, or `[b h n d]` where every channel has its own; each sums to 1 over n, in float32 or better.

    Where the mask leaves no position they are 0.
    """
    wide = torch.promote_types(k.dtype, torch.float32)
    if saliency.ndim == 2:
        logits = einsum(k.to(wide), saliency.to(wide), "b h n d, h d -> b h n").unsqueeze(-1)
    else:
        logits = (saliency.unsqueeze(-1) if saliency.ndim == 3 else saliency).to(wide)
    if mask is None:
        return logits.softmax(dim=-2)
    stays = mask.unsqueeze(-1)
    return logits.masked_fill(~stays, -torch.inf).softmax(dim=-2).masked_fill(~stays, 0.0)


def saliency_pool(k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None) -> Tensor:
    """`[b h e]`, in float32 or better: the values' mean, weighed by saliency."""
    weights = saliency_weights(k, saliency, mask)
    return (weights * v.to(weights.dtype)).sum(dim=-2)


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """`[b h n d]`: one pooled value a head, let through by each position's own gate."""
    pooled = saliency_pool(k, v, saliency, mask=mask).unsqueeze(-2)
    return (torch.sigmoid((k if gate is None else gate).to(pooled.dtype)) * pooled).to(v.dtype)


def global_key_attention(
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """`[b h n d]`: each value, let through as far as its key agrees with the pooled key."""
    pooled = saliency_pool(k, k, saliency, mask=mask)
    seen = (k if gate is None else gate).to(pooled.dtype)
    agreement = einsum(seen, pooled, "b h n d, b h d -> b h n") * scale
    return (torch.sigmoid(agreement).unsqueeze(-1) * v.to(pooled.dtype)).to(v.dtype)
