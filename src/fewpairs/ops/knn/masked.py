"""Masked dense k-NN attention: the paper's fast version with a boolean mask, in PyTorch's own operators."""

from __future__ import annotations

import torch
from torch import Tensor

from fewpairs.ops.knn.selection import kept, ranking


def run_masked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    topk: int,
    bias: Tensor | None,
    scale: float,
    metric: str,
) -> Tensor:
    """Compute `[b h n d], [b h m d], [b h m e] -> [b h n e]`; scores, mask and weights are held as `[b h n m]`."""
    scores = add_bias(q @ k.mT * scale, bias)
    with torch.no_grad():
        ranks = ranking(scores, k, scale, metric)
        stays = kept(ranks, topk)
        empty = ranks.amax(dim=-1, keepdim=True) == -torch.inf
        fill = torch.where(empty, 0.0, -torch.inf).to(scores.dtype)
    weights = torch.softmax(torch.where(stays, scores, fill), dim=-1)
    return (weights @ v).masked_fill(empty, 0.0)


def add_bias(scores: Tensor, bias: Tensor | None) -> Tensor:
    """Add the bias to `[b h n m]` scores, or set them to -inf where a boolean bias is False."""
    if bias is None:
        return scores
    return scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias.to(scores.dtype)
