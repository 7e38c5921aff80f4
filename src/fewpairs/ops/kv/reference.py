"""Key-value attention, written out: the specification of `fewpairs.ops.kv_attention`."""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor

from fewpairs.ops.softmax.reference import weights


def kv_attention(
    k: Tensor, v: Tensor, *, gain: Tensor | None, key_bias: Tensor | None, scale: float, bias: Tensor | None = None
) -> Tensor:
    """Compute `[b h n d], [b h n e] -> [b h n e]`; `gain` `[]`/`[h]`, `key_bias` `[n]`/`[h n]`, `bias` `[b h n n]`."""
    scores = einsum(k, k, "b h n d, b h m d -> b h n m") * scale
    if gain is not None:
        scores = scores * gain.to(scores.dtype).reshape(-1, 1, 1)
    if key_bias is not None:
        scores = scores + key_bias.to(scores.dtype).unsqueeze(-2)
    if bias is not None:
        scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.to(scores.dtype)
    return einsum(weights(scores), v, "b h n m, b h m e -> b h n e")
