"""Attention as an argument: variants, projections and the layer that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fewpairs.attention.assign import Attention, variants_per_stage
from fewpairs.attention.core import Core
from fewpairs.attention.key_only import KeyOnly
from fewpairs.attention.knn import KNN
from fewpairs.attention.kv import KV, KVPos
from fewpairs.attention.multihead import MultiHead
from fewpairs.attention.projection import ConvProjection, LinearProjection, Projection, ReducedProjection
from fewpairs.attention.softmax import Softmax
from fewpairs.attention.variant import ScaleBy, Variant, has_pairs, logit_scale, needs_grid, pair_terms
from fewpairs.errors import InputError, nearest

VARIANTS: dict[str, type] = {"softmax": Softmax, "kv": KV, "kvpos": KVPos, "knn": KNN, "keyonly": KeyOnly}
"""Every variant that the command line can name. A user's own needs no entry here."""

ALIASES = {"qkv": "softmax", "kv-pos": "kvpos", "kv_pos": "kvpos", "key-only": "keyonly", "key_only": "keyonly"}
"""Other names in use in the literature."""

NUMBER_OPTIONS = {"knn": "topk"}
"""Which option a number at the end of a name sets: `knn100` is `{"name": "knn", "topk": 100}`."""


def parse_variant(spec: str | Mapping[str, Any] | Variant) -> Variant:
    """A variant from its name (`"kvpos"`, `"knn100"`), from `{"name": "kvpos", "d_pos": 20}`, or from itself.

    Raises:
        InputError: the name or a field is unknown, or a value has the wrong type.
    """
    if isinstance(spec, Variant):
        return spec
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name, options = _split_number(str(options.pop("name", "")).lower(), options)
    kind = VARIANTS.get(ALIASES.get(name, name))
    if kind is None:
        raise InputError(f"attention {name!r} is not known; {nearest(name, VARIANTS)}")
    allowed, hints = {field.name: field for field in fields(kind)}, get_type_hints(kind)
    for key, value in options.items():
        if key not in allowed:
            known = nearest(key, allowed) if allowed else "it has none"
            raise InputError(f"attention {name!r} has no option {key!r}; {known}")
        default = allowed[key].default
        types = get_args(hints[key]) if get_origin(hints[key]) in (Union, UnionType) else (type(default),)
        if type(value) not in types:
            names = " or ".join(each.__name__ for each in types)
            raise InputError(f"attention {name!r}: {key}={value!r} must be of type {names}, as {default!r} is")
    variant: Variant = kind(**options)
    return variant


def parse_attention(spec: str | Mapping[str, Any] | Variant | Sequence[str | Mapping[str, Any] | Variant]) -> Attention:
    """One variant from a spec of `parse_variant`, or a tuple from a list of them: one a stage or one a block.

    Raises:
        InputError: the list is empty, or one of its specs is wrong.
    """
    if isinstance(spec, (str, Mapping, Variant)):
        return parse_variant(spec)
    if not isinstance(spec, Sequence) or not spec:
        raise InputError(
            f"attention={spec!r} must be a variant, such as knn or {{name: knn, topk: 0.25}}, or a list of one for "
            "each stage or each block"
        )
    return tuple(parse_variant(each) for each in spec)


def _split_number(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """`"knn100"` -> `"knn"` and its option; other names as they are."""
    text = name.rstrip("0123456789")
    option, number = NUMBER_OPTIONS.get(text), name[len(text) :]
    if option is None or not number:
        return name, options
    if option in options:
        raise InputError(f"attention {name!r} sets {option} by its name and by {option}={options[option]!r}; leave one")
    return text, {**options, option: int(number)}


def variant_name(variant: Variant) -> str:
    """The name of a variant in `VARIANTS`, or its class's for one that is not there."""
    return next((name for name, kind in VARIANTS.items() if type(variant) is kind), type(variant).__name__)


__all__ = [
    "KNN",
    "KV",
    "NUMBERED",
    "SYMBOLS",
    "VARIANTS",
    "Attention",
    "ConvProjection",
    "Core",
    "KVPos",
    "KeyOnly",
    "LinearProjection",
    "MultiHead",
    "Projection",
    "ReducedProjection",
    "ScaleBy",
    "Softmax",
    "Variant",
    "has_pairs",
    "logit_scale",
    "needs_grid",
    "pair_terms",
    "parse_attention",
    "parse_variant",
    "variant_name",
    "variants_per_stage",
]
