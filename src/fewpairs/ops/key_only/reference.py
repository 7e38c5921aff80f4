"""Key-only attention, written out: the specification of `fewpairs.ops.key_only`."""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor


def saliency_weights(k: Tensor, saliency: Tensor, mask: Tensor | None) -> Tensor:
    """Return `[b h n 1]`, or `[b h n d]` for logits per channel; they sum to 1 over n, in float32 or better.

    If the mask leaves no position, they are 0.
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
    """Return the saliency-weighted mean of the values, `[b h e]`, in float32 or better."""
    weights = saliency_weights(k, saliency, mask)
    return (weights * v.to(weights.dtype)).sum(dim=-2)


def apply_gate(gate: Tensor, pooled: Tensor) -> Tensor:
    """Return `[b h n d]`: the pooled value of each head times the sigmoid of each position's gate."""
    return (torch.sigmoid(gate.to(pooled.dtype)) * pooled.unsqueeze(-2)).to(gate.dtype)


def key_only_attention(
    k: Tensor, v: Tensor, saliency: Tensor, *, mask: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    """Return `[b h n d]`: one pooled value per head, multiplied by the gate of each position."""
    return apply_gate(k if gate is None else gate, saliency_pool(k, v, saliency, mask=mask))


def global_key_attention(
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """Return `[b h n d]`: each value times the sigmoid of its key's product with the pooled key."""
    pooled = saliency_pool(k, k, saliency, mask=mask)
    seen = (k if gate is None else gate).to(pooled.dtype)
    agreement = einsum(seen, pooled, "b h n d, b h d -> b h n") * scale
    return close_empty_heads((torch.sigmoid(agreement).unsqueeze(-1) * v.to(pooled.dtype)).to(v.dtype), mask)


def close_empty_heads(mixed: Tensor, mask: Tensor | None) -> Tensor:
    """Return `[b h n d]` with zeros for heads in which no position counts."""
    return mixed if mask is None else mixed.masked_fill(~mask.any(dim=-1)[..., None, None], 0.0)
