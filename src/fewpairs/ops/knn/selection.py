"""Which keys a query keeps: the rule that every kernel follows.

Of a row of scores the `topk` largest are kept, and among equal ones those of the lowest key index; a score of -inf is
never kept. `torch.topk` alone does not promise that: which of several equal scores it returns differs by device and
size. So it gives only the value of the last score that is kept; keys above that value stay, and of those that equal it
the first few. A NaN counts as the largest score; a row that holds one is NaN, whatever it keeps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewpairs.ops.dispatch import readable


class Cut(NamedTuple):
    """Where a row ends: keys above `threshold` are kept, and keys equal to it up to the index `last`."""

    threshold: Tensor
    """`[.. n 1]`, of the scores' dtype, finite or NaN; NaN keeps the whole row."""
    last: Tensor
    """`[.. n 1]` int32; m where every key that equals the threshold is kept."""


def ranking(scores: Tensor, k: Tensor, scale: float, metric: str) -> Tensor:
    """What the keys are chosen by, `[b h n m]`, without a gradient: the scores, or an order by distance to the query.

    -|q - k|^2 / 2 = q . k - |k|^2 / 2 - |q|^2 / 2, whose last term is the same for all keys of a query.
    """
    scores = scores.detach()
    if metric == "dot":
        return scores
    return scores - (k.detach().square().sum(-1) * (scale / 2)).unsqueeze(-2)


def select(scores: Tensor, topk: int) -> tuple[Cut, Tensor]:
    """The cut of each row of `[.. n m]`, for `topk` from 1 to m, and the keys that it keeps, `[.. n m]` bool."""
    m, lowest = scores.shape[-1], torch.finfo(scores.dtype).min
    if topk == m:
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
    """The keys that the cut keeps, `[.. n m]` bool."""
    m = scores.shape[-1]
    below = scores < where.threshold
    if not (_cheap_to_read(scores) and not (where.last < m).any()):
        index = torch.arange(m, device=scores.device, dtype=torch.int32)
        below |= (scores == where.threshold) & (index > where.last)
    return below.logical_not_()


def kept(scores: Tensor, topk: int) -> Tensor:
    """The keys that each query keeps, `[.. n m] -> [.. n m]` bool, for `topk` from 1 to m.

    True exactly `topk` times in a row, or as often as there are scores above -inf; ties go to the lower key index.
    """
    return select(scores, topk)[1]


def _no_last(scores: Tensor) -> Tensor:
    """m for each row: no tie to settle."""
    return torch.full_like(scores[..., :1], scores.shape[-1], dtype=torch.int32)


def _cheap_to_read(scores: Tensor) -> bool:
    """On a CPU a look at the numbers costs nothing, and most rows have no ties to settle."""
    return scores.device.type == "cpu" and readable(scores)
