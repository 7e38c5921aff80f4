"""Attention weights of one layer, recomputed for a few queries at a time, with kept keys and measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fewpairs.attention import KNN, KV, Core, Softmax
from fewpairs.inspection.measures import dropped_mass, entropy, mean_distance, truncate
from fewpairs.inspection.token_positions import QueryPosition, TokenPositions
from fewpairs.ops.knn import effective_topk, kept
from fewpairs.ops.knn.reference import logits as scores_of
from fewpairs.ops.knn.selection import ranking
from fewpairs.types import Grid

CHUNK = 2**22
"""The most weights that are held in memory at once."""


@dataclass(frozen=True, slots=True)
class QueryWeights:
    """The attention weights of one query, head by head."""

    position: QueryPosition
    weights: Tensor
    """`[h m]`, before truncation."""
    kept: Tensor | None
    """`[h m]` bool; None for an attention that keeps every key."""
    what: str = "weights"
    """What the numbers are: "weights"; or, for attention without pairs, "saliency" or "gate"."""


@dataclass(frozen=True, slots=True)
class QueryMeasures:
    """Measures of every query in every head, `[h rows]`; windows follow one another."""

    entropy: Tensor
    distance: Tensor | None
    """None where the positions of the tokens are unknown."""
    dropped: Tensor | None
    """This and the two below are None for an attention that keeps every key."""
    entropy_kept: Tensor | None
    distance_kept: Tensor | None


def weights_in_chunks(
    core: Core, roles: tuple[Tensor, ...], bias: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields the attention weights `[b h rows m]` before truncation and the kept keys, in consecutive ranges of rows.

    They are computed in float32 or better, as the exact operator does, in whatever dtype the model runs. Softmax, KV
    and k-NN attention yield at most `CHUNK` weights at once; other variants yield all of theirs.
    """
    *logits, _ = roles
    variant = core.variant
    if not isinstance(variant, (Softmax, KV, KNN)):
        yield core.weights(*logits, bias=bias).float(), None
        return
    wide = torch.promote_types(logits[0].dtype, torch.float32)
    q, k = logits[0].to(wide), logits[-1].to(wide)
    step = max(1, CHUNK // (q.shape[0] * q.shape[1] * k.shape[2]))
    for start in range(0, q.shape[2], step):
        part = None if bias is None else bias[..., start : start + step, :]
        scores = scores_of(q[:, :, start : start + step], k, part, core.scale)
        if isinstance(variant, KNN):
            ranks = ranking(scores, k, core.scale, variant.metric)
            yield scores.softmax(-1), kept(ranks, effective_topk(variant.topk, k.shape[2]))
        else:
            yield scores.softmax(-1), None


def measure_queries(
    core: Core,
    roles: tuple[Tensor, ...],
    bias: Tensor | None,
    layout: TokenPositions | None,
    queries: list[QueryPosition],
) -> tuple[QueryMeasures, list[QueryWeights]]:
    """The measures of all queries, and the weights and kept keys of the chosen `queries`."""
    points = None if layout is None else [points.to(roles[0].device) for points in layout.points()]
    columns: dict[str, list[Tensor]] = {}
    found: dict[QueryPosition, QueryWeights] = {}
    start = 0
    for weights, keeping in weights_in_chunks(core, roles, bias):
        stop = start + weights.shape[2]
        numbers = {"entropy": entropy(weights)}
        remaining = None if keeping is None else truncate(weights, keeping)
        if keeping is not None and remaining is not None:
            numbers |= {"dropped": dropped_mass(weights, keeping), "entropy_kept": entropy(remaining)}
        if points is not None:
            centres, keys = points[0][start:stop], points[1]
            numbers["distance"] = mean_distance(weights, centres, keys)
            if remaining is not None:
                numbers["distance_kept"] = mean_distance(remaining, centres, keys)
        for name, values in numbers.items():
            columns.setdefault(name, []).append(values)
        for query in queries:
            if start <= query.token < stop:
                at = query.batch, slice(None), query.token - start
                found[query] = QueryWeights(query, weights[at].cpu(), None if keeping is None else keeping[at].cpu())
        start = stop

    def all_rows(name: str) -> Tensor | None:
        return torch.cat(columns[name], dim=2).transpose(0, 1).flatten(1).cpu() if name in columns else None

    entropies = all_rows("entropy")
    if entropies is None:
        raise ValueError("an attention without queries has nothing to measure")
    rest = {name: all_rows(name) for name in ("distance", "dropped", "entropy_kept", "distance_kept")}
    return QueryMeasures(entropies, **rest), [found[query] for query in queries]


def measure_positions(
    core: Core, roles: tuple[Tensor, ...], bias: Tensor | None, grid: Grid | None, queries: list[QueryPosition]
) -> tuple[QueryMeasures, list[QueryWeights]]:
    """For attention without pairs: the entropy of each head's saliency, and its maps where `queries` lie.

    The saliency comes first, then the gate where the variant has one, in float32 or better.
    """
    keys = roles[0].to(torch.promote_types(roles[0].dtype, torch.float32))
    found = {"saliency": core.saliency(keys, bias=bias)}
    if hasattr(core.mix, "gates"):
        found["gate"] = core.mix.gates(keys, bias=bias, grid=grid)
    rows = [QueryWeights(at, values[at.batch].cpu(), None, what) for at in queries for what, values in found.items()]
    measured = entropy(found["saliency"].unsqueeze(-2)).transpose(0, 1).flatten(1).cpu()
    return QueryMeasures(measured, None, None, None, None), rows
