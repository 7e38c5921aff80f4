"""Variants of attention, projections, and the multi-head layer that combines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fewpairs.attention.assign import Attention, variants_per_stage
from fewpairs.attention.core import Core, use_kernel
from fewpairs.attention.key_only import KeyOnly
from fewpairs.attention.knn import KNN
from fewpairs.attention.kv import KV, KVPos
from fewpairs.attention.multihead import MultiHead
from fewpairs.attention.projection import ConvProjection, LinearProjection, Projection, ReducedProjection
from fewpairs.attention.softmax import Softmax
from fewpairs.attention.variant import (
    ScaleBy,
    Variant,
    check_kernel,
    has_pairs,
    kernel_names,
    logit_scale,
    needs_grid,
    pair_terms,
)
from fewpairs.errors import InputError, nearest

VARIANTS: dict[str, type] = {"softmax": Softmax, "kv": KV, "kvpos": KVPos, "knn": KNN, "keyonly": KeyOnly}
"""Maps each name that the command line accepts to its variant. Custom variants work without an entry."""

ALIASES = {"qkv": "softmax", "kv-pos": "kvpos", "kv_pos": "kvpos", "key-only": "keyonly", "key_only": "keyonly"}
"""Maps other names from the literature to those in `VARIANTS`."""

NUMBER_OPTIONS = {"knn": "topk"}
"""Maps a name to the option that a number after it sets: `knn100` means `{"name": "knn", "topk": 100}`."""


def parse_variant(spec: str | Mapping[str, Any] | Variant) -> Variant:
    """Create a variant from a name (`"kvpos"`, `"knn100"`) or `{"name": "kvpos", "d_pos": 20}`; return a variant as is.

    Raises:
        InputError: the name or a field is unknown, or a value has the wrong type.
    """
    if isinstance(spec, Variant):
        return spec
    if not isinstance(spec, (str, Mapping)):
        raise InputError(
            f"attention={spec!r} must be a variant, such as knn or {{name: knn, topk: 0.25}}, not {type(spec).__name__}"
        )
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name, options = _split_number(str(options.pop("name", "")).lower(), options)
    kind = VARIANTS.get(ALIASES.get(name, name))
    if kind is None:
        raise InputError(f"attention {name!r} is not known; {nearest(name, VARIANTS)}")
    allowed, hints = {field.name: field for field in fields(kind)}, get_type_hints(kind)
    for key, value in options.items():
        if key not in allowed:
            known = nearest(key, allowed) if allowed else "it has no options"
            raise InputError(f"attention {name!r} has no option {key!r}; {known}")
        default = allowed[key].default
        types = get_args(hints[key]) if get_origin(hints[key]) in (Union, UnionType) else (type(default),)
        if type(value) not in types:
            names = " or ".join(each.__name__ for each in types)
            raise InputError(f"attention {name!r}: {key}={value!r} must be of type {names}, as {default!r} is")
    variant: Variant = kind(**options)
    return variant


def parse_attention(spec: str | Mapping[str, Any] | Variant | Sequence[str | Mapping[str, Any] | Variant]) -> Attention:
    """Parse one variant, or a list with one variant per stage or per block into a tuple; see `parse_variant`.

    Raises:
        InputError: the list is empty, or one of its specs is wrong.
    """
    if isinstance(spec, (str, Mapping, Variant)):
        return parse_variant(spec)
    if not isinstance(spec, Sequence) or not spec:
        raise InputError(
            f"attention={spec!r} must be a variant, such as knn or {{name: knn, topk: 0.25}}, or a list "
            "with one variant per stage or per block"
        )
    return tuple(parse_variant(each) for each in spec)


def _split_number(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Split `"knn100"` into `"knn"` and its option; return other names unchanged."""
    text = name.rstrip("0123456789")
    option, number = NUMBER_OPTIONS.get(text), name[len(text) :]
    if option is None or not number:
        return name, options
    if option in options:
        raise InputError(f"attention {name!r} sets {option} in its name and by {option}={options[option]!r}; keep one")
    if len(number) > 9:
        raise InputError(f"attention {text!r} with a number of {len(number)} digits; {option} has at most 9")
    return text, {**options, option: int(number)}


def variant_name(variant: Variant) -> str:
    """Return the name of a variant in `VARIANTS`, or the name of its class if it is not listed there."""
    return next((name for name, kind in VARIANTS.items() if type(variant) is kind), type(variant).__name__)


def plain_variant(variant: Variant) -> dict[str, Any]:
    """Return a variant as plain data, which `parse_variant` reads if it is listed in `VARIANTS`."""
    options: dict[str, Any] = asdict(variant) if is_dataclass(variant) and not isinstance(variant, type) else {}
    return {"name": variant_name(variant), **options}


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
    "check_kernel",
    "has_pairs",
    "kernel_names",
    "logit_scale",
    "needs_grid",
    "pair_terms",
    "parse_attention",
    "parse_variant",
    "plain_variant",
    "use_kernel",
    "variant_name",
    "variants_per_stage",
]
