"""k-NN attention in blocks of query rows; `fewpairs.ops.knn.bounded` registers these functions as operators.

For each block, scores and selection are computed, used to mix the values, and discarded. Beside the output, the
backward pass receives three numbers per row: the cut (threshold and last key, see `fewpairs.ops.knn.selection`) and the
log-sum-exp. It computes the same scores again, block by block, and needs no top-k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fewpairs.ops.knn.selection import Cut, inside, ranking, select

SCORES_AT_ONCE = {"cpu": 2**21, "cuda": 2**25}
"""The number of scores in a block; each needs up to about 20 bytes at a time."""

Block = tuple[slice, slice, slice]
"""Slices of images, heads and query rows."""


def blocks(b: int, h: int, n: int, m: int, scores: int) -> Iterator[Block]:
    """Yield slices that cover `[b h n]` once, each with at most `scores` rows x keys, but at least one row.

    A block spans several heads or images only if it contains them completely.
    """
    rows = max(1, min(n, scores // m))
    heads = max(1, min(h, scores // (rows * m))) if rows == n else 1
    images = max(1, min(b, scores // (heads * rows * m))) if rows == n and heads == h else 1
    for image in range(0, b, images):
        for head in range(0, h, heads):
            for row in range(0, n, rows):
                yield slice(image, image + images), slice(head, head + heads), slice(row, row + rows)


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, topk: int, scale: float, metric: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output `[b h n e]`, and as `[b h n 1]` each the two parts of the cut and the log-sum-exp."""
    out, threshold, last, log_sum = empty_results(q, k, v)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    with torch.autocast(q.device.type, enabled=False):
        for image, head, row in _plan(q, k):
            keys = k[image, head]
            scores = _scores(q[image, head, row], keys, bias, scale, (image, head, row))
            where, stays = select(ranking(scores, keys, scale, metric), topk)
            highest = _row_max(scores, stays, metric)
            weights = _shifted_exp(scores, highest, stays)
            total = weights.sum(dim=-1, keepdim=True).clamp_min_(torch.finfo(weights.dtype).tiny)
            out[image, head, row] = (weights.to(v.dtype) @ v[image, head]) / total
            threshold[image, head, row], last[image, head, row] = where
            log_sum[image, head, row] = highest + total.log()
    return out, threshold, last, log_sum


def empty_results(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the results of `forward`."""
    row = (*q.shape[:3], 1)
    return (
        q.new_empty((*q.shape[:3], v.shape[3])),
        q.new_empty(row),
        q.new_empty(row, dtype=torch.int32),
        q.new_empty(row, dtype=_sum_dtype(q.dtype)),
    )


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    threshold: Tensor,
    last: Tensor,
    log_sum: Tensor,
    scale: float,
    metric: str,
    bias_learns: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and the bias (empty if it needs none)."""
    dtype, sum_dtype = q.dtype, _sum_dtype(q.dtype)
    grad, q, k, v = grad.contiguous(), q.contiguous(), k.contiguous(), v.contiguous()
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k, dtype=sum_dtype), torch.zeros_like(v, dtype=sum_dtype)
    learned = bias if bias_learns else None
    dbias = q.new_zeros(0 if learned is None else learned.shape, dtype=sum_dtype)
    with torch.autocast(q.device.type, enabled=False):
        for image, head, row in _plan(q, k):
            queries, keys, sent = q[image, head, row], k[image, head], grad[image, head, row]
            scores = _scores(queries, keys, bias, scale, (image, head, row))
            where = Cut(threshold[image, head, row], last[image, head, row])
            stays = inside(ranking(scores, keys, scale, metric), where)
            weights = _shifted_exp(scores, log_sum[image, head, row], stays)
            # The log-sum-exp is rounded, so that the weights of a row with large logits do not sum to 1.
            weights.div_(weights.sum(dim=-1, keepdim=True).clamp_min_(torch.finfo(weights.dtype).tiny))
            dv[image, head] += weights.to(dtype).mT @ sent
            change = (sent @ v[image, head].mT).to(sum_dtype)
            # From the same products, so that the gradient of a key that has all the weight is 0.
            change.sub_((change * weights).sum(dim=-1, keepdim=True)).mul_(weights)
            if bias_learns:
                mine = _part(dbias, (image, head, row))
                mine += change.sum_to_size(mine.shape)
            change = change.mul_(scale).to(dtype)
            dq[image, head, row] = change @ keys
            dk[image, head] += change.mT @ queries
    return dq, dk.to(dtype), dv.to(dtype), dbias if learned is None else dbias.to(learned.dtype)


def empty_gradients(q: Tensor, k: Tensor, v: Tensor, learned: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate the results of `backward`."""
    dbias = q.new_empty(0, dtype=_sum_dtype(q.dtype)) if learned is None else learned.new_empty(learned.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dbias


def _plan(q: Tensor, k: Tensor) -> Iterator[Block]:
    b, h, n, _ = q.shape
    return blocks(b, h, n, k.shape[2], SCORES_AT_ONCE.get(q.device.type, SCORES_AT_ONCE["cpu"]))


def _part(bias: Tensor, block: Block) -> Tensor:
    """Return a view of the part of a bias `[#b #h n m]` for the block."""
    image, head, row = block
    return bias[image if bias.shape[0] > 1 else slice(None), head if bias.shape[1] > 1 else slice(None), row]


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, block: Block) -> Tensor:
    """Compute the logits of one block, `[b h rows m]`, in the dtype of q; repeated calls give the same bits."""
    scores = (q @ k.mT).mul_(scale)
    if bias is None:
        return scores
    bias = _part(bias, block)
    return scores.masked_fill_(~bias, -torch.inf) if bias.dtype == torch.bool else scores.add_(bias.to(scores.dtype))


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums and exponentials: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def _row_max(scores: Tensor, stays: Tensor, metric: str) -> Tensor:
    """Return the largest kept logit of each row, `[.. n m] -> [.. n 1]`; 0 if the row keeps none."""
    if metric != "dot":  # with metric="dot" the largest logit is always kept
        scores = scores.masked_fill(~stays, -torch.inf)
    highest = scores.amax(dim=-1, keepdim=True).to(_sum_dtype(scores.dtype))
    return highest.masked_fill_(highest == -torch.inf, 0.0)


def _shifted_exp(scores: Tensor, less: Tensor, stays: Tensor) -> Tensor:
    """Return exp(scores - less) for kept keys, else 0; `less` is at least the largest kept logit of the row.

    A dropped key may have a score above `less` and must not overflow. Exponentials with subnormal results (such as
    under a shift mask of -100) or of -inf are far slower on a CPU, so kept weights are 1e-35 of the largest or more.
    """
    raised = scores.to(_sum_dtype(scores.dtype)).sub_(less)
    return raised.clamp_(math.log(torch.finfo(raised.dtype).tiny) + 7, 0.0).exp_().mul_(stays)
