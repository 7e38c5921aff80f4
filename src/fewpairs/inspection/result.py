"""What `inspect_attention` finds, as plain data."""

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
    """What was inspected, in words for the page."""

    model: str
    weights: str
    """Where the weights are from, as a sentence."""
    untrained: bool = False
    """Whether the weights are random: then the page says so plainly."""
    image: str = ""
    classes: tuple[str, ...] = ()
    """Names of the model's classes, where they are known."""
    command: str = ""


@dataclass(frozen=True, slots=True)
class HeadSummaries:
    """One number of a layer: of each head over its queries, and over all of them."""

    heads: tuple[Summary, ...]
    all: Summary


@dataclass(frozen=True, slots=True)
class Row:
    """A chosen query in a layer."""

    label: str
    position: QueryPosition
    weights: NDArray[np.float32]
    """`[h m]`: what each head weighs before truncation."""
    kept: NDArray[np.bool_] | None
    """`[h m]`; None for an attention that keeps every key."""
    what: str = "weights"
    """What `weights` are: of attention without pairs "saliency" or "gate"."""

    @property
    def truncated(self) -> NDArray[np.float32]:
        """`[h m]`: the weights after truncation; the weights themselves where every key is kept."""
        if self.kept is None:
            return self.weights
        remaining = np.where(self.kept, self.weights, np.float32(0))
        result: NDArray[np.float32] = remaining / remaining.sum(-1, keepdims=True)
        return result


@dataclass(frozen=True, slots=True)
class LayerInspection:
    """One attention layer. What needs truncation is None for an attention that keeps every key."""

    index: int
    name: str
    block: str
    attention: str
    heads: int
    queries: int
    """Query positions of one attention; there are `attentions` of them side by side (windows)."""
    keys: int
    attentions: int
    kept: int | None
    """k: how many keys each query keeps."""
    grid: Size | None
    """Rows and columns of the queries over the image; None where no place is known."""
    windowed: bool
    pairs: bool
    """Whether queries weigh keys. Without pairs, positions are weighed once for the whole attention: one row, not one
    a query."""
    entropy: HeadSummaries
    """Nats, before truncation; without pairs that of each head's saliency."""
    entropy_kept: HeadSummaries | None
    distance: HeadSummaries | None
    """Mean distance from query to key in widths of a query's patch; None where no place is known."""
    distance_kept: HeadSummaries | None
    dropped: HeadSummaries | None
    """Share of a query's weight that lies outside its k keys."""
    gradient: GradientNorms | None
    gradient_dense: GradientNorms | None
    """Of the dense twin, and None where the layer keeps every key."""
    rows: tuple[Row, ...]
    """Queries that are drawn: those without a place first. Empty for layers that were not chosen."""


@dataclass(frozen=True, slots=True)
class BlockInspection:
    """One block of the model, and the same block in its dense twin."""

    name: str
    similarity: float
    """Mean pairwise cosine similarity of the tokens after it."""
    similarity_dense: float | None
    update: float | None
    """Norm of what the block adds over the norm of what came in."""
    update_dense: float | None


@dataclass(frozen=True, slots=True)
class Target:
    """The class whose logit the gradients are of."""

    index: int
    name: str
    chosen: bool
    """By the caller; else it is the one that the model predicts."""
    logit: float
    logit_dense: float | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that `inspect_attention` found."""

    subject: Subject
    picture: Picture
    """`[H W 3]`: the image as the model saw it."""
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
        """Whether what is drawn depends on the chosen queries."""
        return any(layer.pairs or layer.windowed for layer in self.layers)


def query_label(index: int, point: Point) -> str:
    """`1: 112, 56`: the number of a chosen query, as it is marked on the picture, and its row and column."""
    return f"{index + 1}: {int(point[0])}, {int(point[1])}"
