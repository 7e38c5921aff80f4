"""Results of `inspect_attention` as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewpairs.inspection.gradients import GradientNorms
from fewpairs.inspection.measures import Summary
from fewpairs.inspection.token_positions import QueryPosition
from fewpairs.types import Size

Picture = NDArray[np.uint8]
Point = tuple[float, float]
"""Row and column in pixels, from 0 at the upper left."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The inspected model and image, in words for the page."""

    model: str
    weights: str
    """A sentence that says where the weights come from."""
    untrained: bool = False
    """Whether the weights are random, which the page then says."""
    image: str = ""
    classes: tuple[str, ...] = ()
    """Names of the model's classes where they are known."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class HeadSummaries:
    """Summaries of one measure of a layer: of each head over its queries, and over all heads."""

    heads: tuple[Summary, ...]
    all: Summary


@dataclass(frozen=True, slots=True)
class Row:
    """The weights of one chosen query in a layer."""

    label: str
    position: QueryPosition
    weights: NDArray[np.float32]
    """`[h m]`, the weights of each head before truncation."""
    kept: NDArray[np.bool_] | None
    """`[h m]`, the kept keys; None for an attention that keeps every key."""
    what: str = "weights"
    """What `weights` hold: "weights"; or, for attention without pairs, "saliency" or "gate"."""

    @property
    def truncated(self) -> NDArray[np.float32]:
        """`[h m]`, the weights after truncation; equal to `weights` where every key is kept."""
        if self.kept is None:
            return self.weights
        remaining = np.where(self.kept, self.weights, np.float32(0))
        result: NDArray[np.float32] = remaining / remaining.sum(-1, keepdims=True)
        return result


@dataclass(frozen=True, slots=True)
class LayerInspection:
    """Measures of one attention layer. Those of truncation are None for an attention that keeps every key."""

    index: int
    name: str
    block: str
    attention: str
    heads: int
    queries: int
    """Queries of one attention; `attentions` of them (windows) run side by side."""
    keys: int
    attentions: int
    kept: int | None
    """k, the number of keys that each query keeps."""
    grid: Size | None
    """Rows and columns of the queries over the image; None where positions are unknown."""
    windowed: bool
    pairs: bool
    """Whether each query weighs the keys; otherwise positions are weighed once, in one row for the whole attention."""
    entropy: HeadSummaries
    """Entropy in nats before truncation; without pairs, the entropy of each head's saliency."""
    entropy_kept: HeadSummaries | None
    distance: HeadSummaries | None
    """Mean distance from query to key in widths of a query's patch; None where positions are unknown."""
    distance_kept: HeadSummaries | None
    dropped: HeadSummaries | None
    """The share of a query's weight that lies outside its k keys."""
    gradient: GradientNorms | None
    gradient_dense: GradientNorms | None
    """The gradient norms of the dense twin; None where the layer keeps every key."""
    rows: tuple[Row, ...]
    """The queries that are drawn, those without a position first; empty for layers that were not chosen."""


@dataclass(frozen=True, slots=True)
class BlockInspection:
    """Measures of one block of the model and of the same block in its dense twin."""

    name: str
    similarity: float
    """Mean pairwise cosine similarity of the tokens after the block."""
    similarity_dense: float | None
    update: float | None
    """Norm of the block's change over the norm of its input."""
    update_dense: float | None


@dataclass(frozen=True, slots=True)
class Target:
    """The class whose logit is differentiated."""

    index: int
    name: str
    chosen: bool
    """Whether the caller chose the class; otherwise it is the predicted one."""
    logit: float
    logit_dense: float | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that `inspect_attention` measured."""

    subject: Subject
    picture: Picture
    """`[H W 3]`, the image as the model receives it."""
    queries: tuple[Point, ...]
    layers: tuple[LayerInspection, ...]
    blocks: tuple[BlockInspection, ...]
    target: Target | None
    notes: tuple[str, ...] = ()

    @property
    def truncates(self) -> bool:
        """Whether any layer drops keys, so that there is a dense twin to compare with."""
        return any(layer.kept is not None for layer in self.layers)

    @property
    def pairs(self) -> bool:
        """Whether any layer weighs pairs of positions."""
        return any(layer.pairs for layer in self.layers)

    @property
    def positions(self) -> bool:
        """Whether any layer weighs positions without pairs."""
        return any(not layer.pairs for layer in self.layers)

    @property
    def uses_queries(self) -> bool:
        """Whether the drawn maps depend on the chosen queries."""
        return any(layer.pairs or layer.windowed for layer in self.layers)


def query_label(index: int, point: Point) -> str:
    """`1: 112, 56`, the number of a query as it is marked on the picture, with its row and column."""
    return f"{index + 1}: {int(point[0])}, {int(point[1])}"
