"""Measures of attention weights, tokens and gradients.

Weights are `[... n m]`, one row for each query. A row that is not finite gives measures that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and quantiles of one measure over the queries of a head or of a layer."""

    mean: float
    low: float
    """5 % of the queries lie below."""
    quarter: float
    median: float
    three_quarters: float
    high: float
    """5 % of the queries lie above."""


def summary(values: Tensor) -> Summary:
    """Mean and the `QUANTILES` of any number of values; NaN throughout if one of them is NaN."""
    flat = values.flatten().double()
    if not len(flat) or not flat.isfinite().all():
        return Summary(*[float("nan")] * 6)
    # not torch.quantile, which refuses more than 2 ** 24 values
    ordered = flat.sort().values
    places = torch.tensor(QUANTILES, dtype=torch.float64, device=flat.device) * (len(flat) - 1)
    below, above = ordered[places.floor().long()], ordered[places.ceil().long()]
    return Summary(float(flat.mean()), *(below + (above - below) * places.frac()).tolist())


def truncate(weights: Tensor, kept: Tensor) -> Tensor:
    """The weights of the `kept` keys, scaled so that each row sums to 1 again."""
    remaining = weights.masked_fill(~kept, 0)
    return remaining / remaining.sum(-1, keepdim=True)


def dropped_mass(weights: Tensor, kept: Tensor) -> Tensor:
    """`[... n]`, the share t of a row's weight that lies outside its kept keys.

    t is the total variation between the row before and after truncation, and -ln(1 - t) is their relative entropy.
    """
    # summed over what is dropped, because 1 - (what is kept) rounds a small share away; NaN stays, kept or not
    return weights.masked_fill(kept, 0).sum(-1) + 0 * weights.sum(-1)


def entropy(weights: Tensor) -> Tensor:
    """`[... n]` in nats: 0 where one key has all the weight, ln m where m keys share it equally."""
    return torch.special.entr(weights).sum(-1)


def mean_distance(weights: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """`[... n]`, the mean distance between a query and the keys, weighted by the query's attention.

    Positions are `[n 2]` and `[m 2]`, row and column, and NaN for a token without one. Such keys are left out and the
    weights of the others scaled to sum to 1; the distance of a query without a position is NaN.
    """
    placed = keys.isfinite().all(-1)
    distances = torch.cdist(queries.to(weights.dtype), keys[placed].to(weights.dtype))
    distances = distances.masked_fill(~queries.isfinite().all(-1)[:, None], float("nan"))
    reached = weights[..., placed]
    return (reached * distances).sum(-1) / reached.sum(-1)


def token_similarity(tokens: Tensor) -> float:
    """Mean cosine similarity of all pairs of different tokens `[n c]`: near 1 where tokens are alike.

    NaN for a single token. A token of zeros has a similarity of 0 with every other.
    """
    n = len(tokens)
    if n < 2:
        return float("nan")
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1)
    own = unit.square().sum()
    return float((unit.sum(0).square().sum() - own) / (n * (n - 1)))


def update_ratio(before: Tensor, after: Tensor) -> float:
    """Norm of a residual block's change over the norm of its input, as the mean over the tokens `[n c]`.

    Tokens that are zero before the block, as a class token may be in an untrained model, are left out; NaN without any.
    """
    before, after = before.double(), after.double()
    norms = before.norm(dim=-1)
    return float(((after - before).norm(dim=-1) / norms)[norms != 0].mean())


def joint_norm(gradients: Sequence[Tensor | None]) -> float:
    """Euclidean norm of all gradients together; None, the gradient of an unused tensor, counts as zero."""
    present = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
    return float(torch.stack(present).sum().sqrt()) if present else 0.0
