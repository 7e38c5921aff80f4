"""One model with several attentions, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from latchkey.attention import VARIANTS, Variant, parse_variant, variant_name
from latchkey.cost.ledger import Ledger, ledger
from latchkey.errors import InputError, nearest
from latchkey.models import ENCODERS, MODELS, EncoderSpec, ModelSpec, create_encoder, create_segmenter
from latchkey.types import Size


@dataclass(frozen=True, slots=True)
class CostTable:
    """Ledgers of one model by the name of the attention; the first is what the others are compared with."""

    model: str
    size: Size
    channels: int
    classes: int
    """Output channels of a segmenter or classifier; 0 for an encoder without a head."""
    ledgers: dict[str, Ledger]
    refused: dict[str, str]
    """Attentions that the model cannot have, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; bytes are for one image in float32."""
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
            for name, cost in self.ledgers.items()
        }
        height, width = self.size
        about = {"model": self.model, "height": height, "width": width, "channels": self.channels}
        return {**about, "classes": self.classes, "attention": rows, "refused": self.refused}


def compare(
    model: str,
    attentions: Sequence[str | Variant] | None = None,
    *,
    size: Size | None = None,
    classes: int | None = None,
    channels: int = 3,
) -> CostTable:
    """The cost of a segmentation model or an encoder, by name, with each attention; with all that it can have for None.

    Args:
        size: (h, w) in pixels; the model's default when None.
        classes: output channels; 3 for a segmenter and the encoder's own number when None.

    Raises:
        InputError: an unknown model or attention, or one of `attentions` that the model cannot have.
    """
    known: dict[str, ModelSpec | EncoderSpec] = {**MODELS, **ENCODERS}
    if model not in known:
        raise InputError(f"model {model!r} is not known; {nearest(model, known)}")
    size = size or known[model].image_size
    if min(*size, channels) < 1:
        raise InputError(f"size={size[0]},{size[1]} and channels={channels} must be 1 or more")
    classes = default_classes(model) if classes is None else classes
    ledgers, refused = {}, {}
    for variant in map(parse_variant, attentions or VARIANTS):
        name = variant_name(variant)
        plain = name in VARIANTS and variant == parse_variant(name)
        label = name if plain else str(variant)
        try:
            with torch.device("meta"):
                built = build(model, variant, size, classes, channels)
        except InputError as error:
            if attentions:
                raise
            refused[label] = str(error)
        else:
            ledgers[label] = ledger(built, size, channels=channels)
    if not ledgers:
        raise InputError("; ".join(refused.values()))
    return CostTable(model, size, channels, classes, ledgers, refused)


def default_classes(model: str) -> int:
    """Output channels that a model is counted with: 3 for a segmenter, the published number for an encoder."""
    return ENCODERS[model].classes if model in ENCODERS else 3


def build(model: str, variant: Variant, size: Size, classes: int, channels: int) -> nn.Module:
    """A segmenter or an encoder by name."""
    if model in ENCODERS:
        return create_encoder(model, attention=variant, image_size=size, in_channels=channels, classes=classes)
    return create_segmenter(model, attention=variant, image_size=size, in_channels=channels, classes=classes)
