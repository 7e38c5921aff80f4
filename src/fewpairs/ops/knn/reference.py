"""k-NN attention, written out three times: the specification of `fewpairs.ops.knn_attention`.

With dot products, `masked` and `gathered` are two forms of one operator, and tests compare them. With Euclidean
distance, `gathered` is another operator, unless all keys have the same norm.
"""

from __future__ import annotations

import torch
from einops import einsum
from torch import Tensor

from fewpairs.ops.knn.selection import ranking
from fewpairs.ops.softmax.reference import weights


def logits(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Return the scores `[b h n m]`, scaled and with bias or mask."""
    scores = einsum(q, k, "b h n d, b h m d -> b h n m") * scale
    if bias is None:
        return scores
    return scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.to(scores.dtype)


def topk_indices(scores: Tensor, topk: int) -> Tensor:
    """Return the indices of the largest scores, `[b h n topk]`; the lower index wins ties."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :topk]


def masked(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """Compute the paper's fast version: dense scores, -inf for all but the best, softmax over whole rows."""
    scores = logits(q, k, bias, scale)
    chosen = topk_indices(ranking(scores, k, scale, metric), topk)
    stays = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, torch.ones_like(chosen, dtype=torch.bool))
    return einsum(weights(scores.masked_fill(~stays, -torch.inf)), v, "b h n m, b h m e -> b h n e")


def gathered(q: Tensor, k: Tensor, v: Tensor, *, topk: int, bias: Tensor | None, scale: float, metric: str) -> Tensor:
    """Gather the keys and values of each query, without masks; by distance it is the paper's slow version."""
    scores = logits(q, k, bias, scale)
    chosen = topk_indices(ranking(scores, k, scale, metric), topk)
    few = weights(scores.gather(-1, chosen))
    image = torch.arange(v.shape[0], device=v.device)[:, None, None, None]
    head = torch.arange(v.shape[1], device=v.device)[None, :, None, None]
    # Use float32 or better: the backward pass adds the gradients of a key from all queries one by one.
    values = v.to(torch.promote_types(v.dtype, torch.float32))[image, head, chosen]
    return einsum(few.to(values.dtype), values, "b h n kept, b h n kept e -> b h n e").to(v.dtype)
