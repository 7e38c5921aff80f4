"""The selection of keys, as every kernel implements it.

A row keeps its `topk` largest scores, among equal ones those with the lowest key index; it never keeps -inf. The order
of equal scores in `torch.topk` depends on device and size, so it only gives the value of the last kept score: keys
above that value are kept, and the first of those that equal it. NaN counts as the largest score, and a row with NaN is
NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewpairs.ops.transforms import readable, recorded


class Cut(NamedTuple):
    """The cut of a row: keys above `threshold` are kept, and keys equal to it up to the index `last`."""

    threshold: Tensor
    """A tensor `[.. n 1]` of the scores' dtype, finite or NaN; NaN keeps the whole row."""
    last: Tensor
    """A tensor `[.. n 1]` int32; m keeps all keys that equal the threshold."""


def ranking(scores: Tensor, k: Tensor, scale: float, metric: str) -> Tensor:
    """Return the numbers that keys are selected by, `[b h n m]`, detached: scores, or an order by distance.

    -|q - k|^2 / 2 = q . k - |k|^2 / 2 - |q|^2 / 2, whose last term is the same for all keys of a query.
    """
    scores = scores.detach()
    if metric == "dot":
        return scores
    return scores - (k.detach().square().sum(-1) * (scale / 2)).unsqueeze(-2)


def select(scores: Tensor, topk: int) -> tuple[Cut, Tensor]:
    """Return the cut of each row of `[.. n m]`, for `topk` from 1 to m, and the kept keys, `[.. n m]` bool."""
    m, lowest = scores.shape[-1], torch.finfo(scores.dtype).min
    if not recorded() and topk == m:
        where = Cut(torch.full_like(scores[..., :1], lowest), _no_last(scores))
        return where, inside(scores, where)
    best = scores.topk(topk, dim=-1, sorted=False).values
    threshold = best.amin(dim=-1, keepdim=True).clamp_min(lowest)
    if _cheap_to_read(scores):
        stays = (scores < threshold).logical_not_()
        if not (stays.sum(dim=-1, dtype=torch.int32) > topk).any():
            return Cut(threshold, _no_last(scores)), stays
    wanted = topk - (scores > threshold).sum(dim=-1, keepdim=True, dtype=torch.int32)
    found = (scores == threshold).cumsum(dim=-1, dtype=torch.int32)
    where = Cut(threshold, (found < wanted).sum(dim=-1, keepdim=True, dtype=torch.int32))
    return where, inside(scores, where)


def inside(scores: Tensor, where: Cut) -> Tensor:
    """Return the keys that the cut keeps, `[.. n m]` bool."""
    m = scores.shape[-1]
    below = scores < where.threshold
    if not (_cheap_to_read(scores) and not (where.last < m).any()):
        index = torch.arange(m, device=scores.device, dtype=torch.int32)
        below |= (scores == where.threshold) & (index > where.last)
    return below.logical_not_()


def kept(scores: Tensor, topk: int) -> Tensor:
    """Return the keys that each query keeps, `[.. n m] -> [.. n m]` bool, for `topk` from 1 to m.

    Each row has `topk` True elements, or fewer if fewer scores are above -inf; the lower key index wins ties.
    """
    return select(scores, topk)[1]


def _no_last(scores: Tensor) -> Tensor:
    """Return m for each row, which means that there are no ties."""
    return torch.full_like(scores[..., :1], scores.shape[-1], dtype=torch.int32)


def _cheap_to_read(scores: Tensor) -> bool:
    """Whether the values are on a CPU, where checking for ties, which are rare, is cheap."""
    return scores.device.type == "cpu" and readable(scores)
