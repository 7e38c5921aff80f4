"""Inspects the attention of one model on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.attention import KNN, Core, has_pairs, variant_name
from fewpairs.errors import InputError
from fewpairs.inspection.capture import BlockReading, LayerReading, Recorder, dense, evaluating
from fewpairs.inspection.gradients import GradientNorms, choose_target, gradient_norms, logits_of
from fewpairs.inspection.layers import block_of, choose_layers, find_cores, layer_name
from fewpairs.inspection.measures import summary
from fewpairs.inspection.query_weights import QueryWeights
from fewpairs.inspection.result import (
    BlockInspection,
    HeadSummaries,
    Inspection,
    LayerInspection,
    Picture,
    Point,
    Row,
    Subject,
    Target,
    query_label,
)
from fewpairs.ops.knn import effective_topk
from fewpairs.types import Size


def inspect_attention(
    model: nn.Module,
    image: Tensor,
    *,
    queries: Sequence[Point] | None = None,
    layers: Sequence[int | str] | None = None,
    target: int | None = None,
    gradients: bool = True,
    picture: Picture | None = None,
    subject: Subject | None = None,
) -> Inspection:
    """Measures every attention layer of `model` while it processes one image.

    A layer with k-NN attention is compared with the dense softmax of the same logits. Token similarity, block updates
    and gradients are compared with the dense twin: the same weights, with no key dropped anywhere. The model is not
    changed.

    Args:
        model: a model with fewpairs' attention (`Core` modules): one of `fewpairs models`, or any other after
            `swap_attention`. It is run in evaluation mode.
        image: `[c H W]` or `[1 c H W]`, normalised as the model expects it.
        queries: row and column in pixels of `image`; the centre and two more by default.
        layers: indices (negative ones count from the end) or patterns of names of the layers whose maps are kept for
            drawing, all by default. Numbers are given for all layers.
        target: index of the class whose logit is differentiated; the predicted class by default.
        gradients: whether to measure gradient norms, which needs the memory of a backward pass.
        picture: `[H W 3]`, the image to show; by default `image` stretched to its range.
        subject: names and notes for the page.

    Raises:
        InputError: the image, a query, a layer or the target does not fit the model, or it has no `Core`.
    """
    cores = find_cores(model)
    image = _one_image(image, model)
    size = (image.shape[2], image.shape[3])
    points = tuple(queries) if queries is not None else default_queries(size)
    shares = [_share(point, size) for point in points]
    drawn = choose_layers([layer_name(core) for core in cores], layers)
    truncates = any(isinstance(core.variant, KNN) for core in cores.values())
    seen = Recorder(size, shares)
    with evaluating(model):
        first = _pass(model, image, seen, target, gradients)
        second = None
        if truncates:
            # the twin's blocks leave out the same prefix tokens, which are known from the layers recorded so far
            with dense(cores):
                twin = Recorder(size, shares, layers=seen.layers)
                second = _pass(model, image, twin, first.target, gradients, attention=False)
    studied = []
    for index, (name, core) in enumerate(cores.items()):
        if name in seen.layers:
            norms = first.norms.get(name), second.norms.get(name) if second and isinstance(core.variant, KNN) else None
            wanted = points if layer_name(name) in drawn else None
            studied.append(_layer(index, name, core, seen.layers[name], norms, wanted))
    subject = subject or Subject(type(model).__name__, "The weights are those of the model that was given.")
    blocks = second.recorder.blocks if second else {}
    return Inspection(
        subject,
        picture if picture is not None else _stretched(image[0]),
        points,
        tuple(studied),
        tuple(_block(name, read, blocks.get(name)) for name, read in seen.blocks.items()),
        _target(first, second, subject, chosen=target is not None),
        tuple(_notes(cores, seen, first)),
    )


@dataclass(frozen=True, slots=True)
class _Pass:
    """Results of one forward pass, and of another one with gradients."""

    recorder: Recorder
    logits: Tensor | None
    target: int | None
    norms: dict[str, GradientNorms]


def _pass(
    model: nn.Module, image: Tensor, recorder: Recorder, target: int | None, gradients: bool, *, attention: bool = True
) -> _Pass:
    with recorder.attached(model, attention=attention), torch.no_grad():
        output = _output(model, image)
    # timm's models have num_classes 0 when their output is features
    logits = None if getattr(model, "num_classes", None) == 0 else logits_of(output)
    target = choose_target(logits, target)
    norms = gradient_norms(model, image, target, find_cores(model)) if gradients and target is not None else {}
    return _Pass(recorder, logits, target, norms)


def _output(model: nn.Module, image: Tensor) -> Any:
    try:
        return model(image)
    except (AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        _, channels, height, width = image.shape
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model cannot take an image of {channels} channels and {height} x {width} pixels: {why}"
        ) from error


def default_queries(size: Size) -> tuple[Point, ...]:
    """The centre of an image, and the centres of its upper left and lower right quarter."""
    height, width = size
    return tuple((int(height * part), int(width * part)) for part in (0.5, 0.25, 0.75))


def _one_image(image: Tensor, model: nn.Module) -> Tensor:
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1 or 0 in batch.shape:
        raise InputError(f"image has the shape {list(image.shape)}; it must be one image, [c H W] or [1 c H W]")
    like = next(model.parameters(), None)
    return batch.clone() if like is None else batch.to(like.device, like.dtype, copy=True)


def _share(point: Point, size: Size) -> Point:
    (y, x), (height, width) = point, size
    if not (0 <= y < height and 0 <= x < width):
        raise InputError(
            f"query {y:g},{x:g} (row, column) lies outside the image of {height} x {width} pixels; rows go from 0 to "
            f"{height - 1}, columns from 0 to {width - 1}"
        )
    return y / height, x / width


def _stretched(image: Tensor) -> Picture:
    """Converts `[c H W]` to RGB between its smallest and largest value; uses one channel unless there are three."""
    channels = image.float().cpu() if len(image) == 3 else image[:1].float().cpu().expand(3, -1, -1)
    low, high = channels.min(), channels.max()
    scaled = (channels - low) / (high - low if high > low else 1)
    return (scaled * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _layer(
    index: int,
    name: str,
    core: Core,
    reading: LayerReading,
    gradient: tuple[GradientNorms | None, GradientNorms | None],
    points: Sequence[Point] | None,
) -> LayerInspection:
    layout, measures = reading.positions, reading.measures
    rows: list[Row] = []
    if points is not None:
        apart = [_row(_prefix_label(i, len(reading.prefix)), row) for i, row in enumerate(reading.prefix)]
        rows = [*apart, *(_row(_label(core, reading, i, points), row) for i, row in enumerate(reading.rows))]
    return LayerInspection(
        index=index,
        name=layer_name(name),
        block=block_of(name),
        attention=variant_name(core.variant),
        heads=core.heads,
        queries=reading.queries,
        keys=reading.keys,
        attentions=reading.attentions,
        kept=effective_topk(core.variant.topk, reading.keys) if isinstance(core.variant, KNN) else None,
        grid=(layout.queries.h, layout.queries.w) if layout is not None and layout.queries.h else None,
        windowed=reading.attentions > 1,
        pairs=has_pairs(core.variant),
        entropy=_required(measures.entropy),
        entropy_kept=_measured(measures.entropy_kept),
        distance=_measured(measures.distance, layout.queries.prefix if layout is not None else 0),
        distance_kept=_measured(measures.distance_kept, layout.queries.prefix if layout is not None else 0),
        dropped=_measured(measures.dropped),
        gradient=gradient[0],
        gradient_dense=gradient[1],
        rows=tuple(rows),
    )


def _required(values: Tensor) -> HeadSummaries:
    return HeadSummaries(tuple(summary(head) for head in values), summary(values))


def _measured(values: Tensor | None, without: int = 0) -> HeadSummaries | None:
    """Summaries of `[h rows]` without the first `without` queries; None where no query is left."""
    return None if values is None or values.shape[1] <= without else _required(values[:, without:])


def _row(label: str, row: QueryWeights) -> Row:
    return Row(
        label, row.position, row.weights.float().numpy(), None if row.kept is None else row.kept.numpy(), row.what
    )


def _label(core: Core, reading: LayerReading, index: int, points: Sequence[Point]) -> str:
    if has_pairs(core.variant):
        return query_label(index, points[index])
    if reading.attentions == 1:
        return "all positions"
    query = index * len(points) // len(reading.rows)
    return f"window of {query_label(query, points[query])}"


def _prefix_label(index: int, count: int) -> str:
    return "class token" if index == 0 else f"prefix token {index}" if count > 1 else "class token"


def _block(name: str, read: BlockReading, twin: BlockReading | None) -> BlockInspection:
    return BlockInspection(
        name, read.similarity, twin.similarity if twin else None, read.update, twin.update if twin else None
    )


def _target(first: _Pass, second: _Pass | None, subject: Subject, *, chosen: bool) -> Target | None:
    if first.target is None or first.logits is None:
        return None
    index = first.target
    name = subject.classes[index] if index < len(subject.classes) else str(index)
    other = float(second.logits[index]) if second and second.logits is not None else None
    return Target(index, name, chosen, float(first.logits[index]), other)


def _notes(cores: dict[str, Core], seen: Recorder, first: _Pass) -> list[str]:
    notes = []
    silent = [layer_name(name) for name in cores if name not in seen.layers]
    if silent:
        notes.append(f"The image did not pass through {len(silent)} attention layers: {', '.join(silent)}.")
    if any(reading.positions is None for reading in seen.layers.values()):
        notes.append("Some layers have tokens whose position on the image is unknown; they have no distances.")
    if any(reading.attentions > 1 for reading in seen.layers.values()):
        notes.append("Layers with windows are shown within the window that the query lies in.")
    if first.target is None:
        notes.append("The model gives no class logits, so there is no target and there are no gradients.")
    return notes
