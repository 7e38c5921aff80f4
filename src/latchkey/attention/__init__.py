"""Attention as an argument: variants, projections and the layer that joins them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from latchkey.attention.kv import KV, KVPos
from latchkey.attention.multihead import MultiHead
from latchkey.attention.projection import ConvProjection, LinearProjection, Projection
from latchkey.attention.softmax import Softmax
from latchkey.attention.variant import ScaleBy, Variant, logit_scale, pair_terms
from latchkey.errors import InputError, nearest

VARIANTS: dict[str, type] = {"softmax": Softmax, "kv": KV, "kvpos": KVPos}
"""Every variant that the command line can name. A user's own needs no entry here."""

SYMBOLS = {"qkv": "softmax", "kv-pos": "kvpos", "kv_pos": "kvpos"}
"""Other names in use in the literature."""


def parse_variant(spec: str | Mapping[str, Any] | Variant) -> Variant:
    """A variant from its name (`"kvpos"`), from `{"name": "kvpos", "d_pos": 20}`, or from itself.

    Raises:
        InputError: the name or a field is unknown, or a value has the wrong type.
    """
    if isinstance(spec, Variant):
        return spec
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(options.pop("name", "")).lower()
    kind = VARIANTS.get(SYMBOLS.get(name, name))
    if kind is None:
        raise InputError(f"attention {name!r} is not known; {nearest(name, VARIANTS)}")
    allowed = {field.name: field for field in fields(kind)}
    for key, value in options.items():
        if key not in allowed:
            known = nearest(key, allowed) if allowed else "it has none"
            raise InputError(f"attention {name!r} has no option {key!r}; {known}")
        default = allowed[key].default
        if type(value) is not type(default):
            raise InputError(
                f"attention {name!r}: {key}={value!r} must be of type {type(default).__name__}, as {default!r} is"
            )
    variant: Variant = kind(**options)
    return variant


def variant_name(variant: Variant) -> str:
    """The name of a variant in `VARIANTS`, or its class's for one that is not there."""
    return next((name for name, kind in VARIANTS.items() if type(variant) is kind), type(variant).__name__)


__all__ = [
    "KV",
    "SYMBOLS",
    "VARIANTS",
    "ConvProjection",
    "KVPos",
    "LinearProjection",
    "MultiHead",
    "Projection",
    "ScaleBy",
    "Softmax",
    "Variant",
    "logit_scale",
    "pair_terms",
    "parse_variant",
    "variant_name",
]
