"""Catalogue of all models by name, with their costs: a list of models, and one model with several attentions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from fewpairs.attention import VARIANTS, Variant, has_pairs, parse_variant, variant_name
from fewpairs.cost.breakdown import CostBreakdown, cost_breakdown, trace_model
from fewpairs.cost.empty_weights import empty_weights
from fewpairs.cost.tracing import Site
from fewpairs.errors import InputError, nearest
from fewpairs.models import (
    CLASSIFIERS,
    DETECTORS,
    ENCODERS,
    MODELS,
    CountedDetector,
    create_classifier,
    create_detector,
    create_encoder,
    create_segmenter,
)
from fewpairs.ops.knn import effective_topk
from fewpairs.types import Size

Kind = Literal["segmenter", "encoder", "classifier", "detector"]

_DETECTED = (800, 1280)
"""Image size in pixels with which publications count detectors on COCO."""
_OBJECTS = 80


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalogue."""

    name: str
    kind: Kind
    summary: str
    image_size: Size
    """Default (h, w) in pixels."""
    classes: int
    """Output channels for the count: 3 for a segmenter, otherwise the published number, 0 for no head."""


CATALOGUE: dict[str, ModelEntry] = {
    **{name: ModelEntry(name, "segmenter", spec.summary, spec.image_size, 3) for name, spec in MODELS.items()},
    **{name: ModelEntry(name, "encoder", row.summary, row.image_size, row.classes) for name, row in ENCODERS.items()},
    **{name: ModelEntry(name, "classifier", row.summary, row.image_size, 1000) for name, row in CLASSIFIERS.items()},
    **{name: ModelEntry(name, "detector", spec.summary, _DETECTED, _OBJECTS) for name, spec in DETECTORS.items()},
}
"""All models. The published CvT is both an encoder and a classifier, and is listed as a classifier."""


def find_models(pattern: str) -> list[ModelEntry]:
    """Return the models whose names match a shell pattern.

    Raises:
        InputError: no name matches; the message offers the nearest one.
    """
    found = [entry for name, entry in CATALOGUE.items() if fnmatchcase(name, pattern)]
    if not found:
        raise InputError(f"no model's name matches {pattern!r}; {nearest(pattern, CATALOGUE, 'fewpairs models')}")
    return found


@dataclass(frozen=True, slots=True)
class AttentionStage:
    """Attention layers of a model with the same numbers of tokens."""

    queries: int
    keys: int
    windows: int
    """Number of windows that the layer runs on for one image."""
    topk: int | None
    """Number of keys that each query keeps; None keeps all."""
    pairs: bool = True
    """Whether query-key pairs are formed; False for key-only attention."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model with one attention; `refused` says why it cannot have that attention."""

    entry: ModelEntry
    parameters: int = 0
    macs: int = 0
    stages: tuple[AttentionStage, ...] = ()
    refused: str | None = None


def default_attention(entry: ModelEntry) -> str:
    """Return the name of the attention that a model has by default."""
    return CLASSIFIERS[entry.name].default_attention if entry.kind == "classifier" else "softmax"


def list_costs(entries: Sequence[ModelEntry], attention: str | Variant | None = None) -> Iterator[ListedModel]:
    """Yield the cost of each model at its default size, with one attention or with the model's default.

    `"knn"` uses each classifier's own k.

    Raises:
        InputError: the attention is unknown.
    """
    if attention is not None:
        parse_variant(attention)
    for entry in entries:
        try:
            model = build_entry(entry, attention or default_attention(entry), entry.image_size, entry.classes, 3)
        except InputError as error:
            yield ListedModel(entry, refused=str(error))
            continue
        found = trace_model(model, entry.image_size)
        stages = tuple(dict.fromkeys(_stage(site) for site in found.sites))
        yield ListedModel(entry, sum(p.numel() for p in model.parameters()), found.macs.total(), stages)


def _stage(site: Site) -> AttentionStage:
    topk = getattr(site.variant, "topk", None)
    kept = None if topk is None else effective_topk(topk, site.m)
    return AttentionStage(site.n, site.m, site.copies, kept, pairs=site.variant is None or has_pairs(site.variant))


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of one model by the name of the attention; the first is the reference."""

    model: str
    size: Size
    channels: int
    classes: int
    """Output channels of a segmenter or classifier, classes of a detector; 0 for an encoder without a head."""
    breakdowns: dict[str, CostBreakdown]
    refused: dict[str, str]
    """Attentions that the model cannot have, and the reasons."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; bytes are for one image in float32."""
        rows = {
            name: {
                "parameters": cost.parameters,
                "macs": cost.macs,
                "saved_bytes": cost.saved_bytes,
                "inference_bytes": cost.inference_bytes,
                "terms": {
                    term: {"parameters": row.parameters, "macs": row.macs, "saved_bytes": row.saved_bytes}
                    for term, row in cost.terms.items()
                },
            }
            for name, cost in self.breakdowns.items()
        }
        height, width = self.size
        about = {"model": self.model, "height": height, "width": width, "channels": self.channels}
        return {**about, "classes": self.classes, "attention": rows, "refused": self.refused}


def compare_attentions(
    model: str,
    attentions: Sequence[str | Variant] | None = None,
    *,
    size: Size | None = None,
    classes: int | None = None,
    channels: int = 3,
    encoder: str | None = None,
) -> CostTable:
    """Return the cost of a model, by name, with each of `attentions`; None takes all that the model can have.

    Args:
        attentions: names or variants; `"knn"` takes a classifier's own k.
        size: (h, w) in pixels; the model's default when None.
        classes: output channels; 3 for a segmenter and the published number otherwise when None.
        encoder: encoder of `semantic_fpn`, `upernet` and detectors; the model's default when None.

    Raises:
        InputError: the model or an attention is unknown, the model cannot have one of `attentions`, or it does not run
            on images of this size.
    """
    if model not in CATALOGUE:
        raise InputError(f"model {model!r} is not known; {nearest(model, CATALOGUE, 'fewpairs models')}")
    entry = CATALOGUE[model]
    size = size or entry.image_size
    if min(*size, channels) < 1:
        raise InputError(f"size={size[0]},{size[1]} and channels={channels} must be 1 or more")
    if encoder is not None and entry.kind not in ("segmenter", "detector"):
        raise InputError(f"{model} is not a segmenter or detector, so it takes no encoder={encoder!r}; leave it out")
    classes = entry.classes if classes is None else classes
    breakdowns, refused = {}, {}
    for attention in attentions or VARIANTS:
        label = _label(attention)
        try:
            breakdowns[label] = cost_breakdown(
                build_entry(entry, attention, size, classes, channels, encoder), size, channels=channels
            )
        except InputError as error:
            if attentions:
                raise
            refused[label] = str(error)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"{model} does not run on {size[0]}x{size[1]} pixels: {str(error)[:200]}") from error
    if not breakdowns:
        raise InputError("; ".join(refused.values()))
    return CostTable(model, size, channels, classes, breakdowns, refused)


def _label(attention: str | Variant) -> str:
    """Return a name as given; for a variant, its name if that determines it."""
    if isinstance(attention, str):
        return attention if attention not in VARIANTS and attention.lower() not in VARIANTS else attention.lower()
    name = variant_name(attention)
    return name if name in VARIANTS and attention == parse_variant(name) else str(attention)


def build_entry(
    entry: ModelEntry, attention: str | Variant, size: Size, classes: int, channels: int, encoder: str | None = None
) -> nn.Module:
    """Build the model of an entry without weights; of a detector, the part whose products can be counted."""
    with empty_weights():
        if entry.kind == "classifier":
            return create_classifier(
                entry.name, attention=attention, classes=classes, in_channels=channels, image_size=size
            )
        variant = parse_variant(attention)
        if entry.kind == "detector":
            options: dict[str, Any] = {} if encoder is None else {"encoder": encoder}
            return CountedDetector(
                create_detector(entry.name, attention=variant, classes=classes, in_channels=channels, **options)
            )
        if entry.kind == "encoder":
            return create_encoder(entry.name, attention=variant, image_size=size, in_channels=channels, classes=classes)
        return create_segmenter(
            entry.name, attention=variant, image_size=size, in_channels=channels, classes=classes, encoder=encoder
        )
