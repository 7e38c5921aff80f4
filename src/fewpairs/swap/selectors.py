"""Selects layers by `where=` and assigns a variant to each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fewpairs.attention import Variant, parse_variant
from fewpairs.errors import InputError, nearest
from fewpairs.swap.layers import Layer

Where = str | int | Sequence[str | int] | Callable[[Layer], bool] | None
"""All layers (None), a name or pattern, an index, a sequence of these, or a predicate of a `Layer`."""

Variants = Variant | str | Mapping[str, Any] | Sequence[Variant | str | Mapping[str, Any]]
"""One variant for all layers, or a sequence with one per stage or per layer."""


@dataclass(frozen=True)
class Selection:
    """Indices of selected layers."""

    chosen: frozenset[int]
    named: frozenset[int]
    """The layers selected by exact name or index; it is an error if one of them cannot be swapped."""


def select(layers: Sequence[Layer], where: Where) -> Selection:
    """Return the layers that `where` selects.

    Raises:
        InputError: a pattern or index matches no layer, the selection is empty, or `where` has another type.
    """
    if where is None:
        return Selection(frozenset(layer.index for layer in layers), frozenset())
    if isinstance(where, str) or (isinstance(where, int) and not isinstance(where, bool)):
        return _union([_select_one(layers, where)])
    if isinstance(where, Sequence) and not isinstance(where, bytes):
        return _check_not_empty(_union([_select_one(layers, each) for each in where]), layers, where)
    if callable(where):
        chosen = frozenset(layer.index for layer in layers if where(layer))
        return _check_not_empty(Selection(chosen, frozenset()), layers, where)
    raise InputError(
        f"where={where!r} is neither a name pattern, an index, a sequence of these nor a function of a Layer; None "
        "means all layers"
    )


def _select_one(layers: Sequence[Layer], where: str | int) -> Selection:
    if isinstance(where, str):
        return _by_name(layers, where)
    if isinstance(where, bool) or not isinstance(where, int):
        raise InputError(f"where: {where!r} is neither a name pattern nor an index")
    if not -len(layers) <= where < len(layers):
        raise InputError(f"where: there is no layer {where}; the model has {len(layers)}, from 0 to {len(layers) - 1}")
    index = frozenset({layers[where].index})
    return Selection(index, index)


def _by_name(layers: Sequence[Layer], pattern: str) -> Selection:
    matched = frozenset(layer.index for layer in layers if fnmatchcase(layer.name, pattern))
    if not matched:
        names = [layer.name for layer in layers]
        inside = pattern.rstrip(".") + ".*"
        if pattern and any(fnmatchcase(name, inside) for name in names):
            raise InputError(f"where: {pattern!r} is not an attention layer, but contains some; use {inside!r}")
        raise InputError(f"where: no attention layer has the name {pattern!r}; {nearest(pattern, names)}")
    return Selection(matched, frozenset() if re.search(r"[*?\[]", pattern) else matched)


def _union(parts: Sequence[Selection]) -> Selection:
    return Selection(
        frozenset().union(*(part.chosen for part in parts)), frozenset().union(*(part.named for part in parts))
    )


def _check_not_empty(selection: Selection, layers: Sequence[Layer], where: object) -> Selection:
    if not selection.chosen:
        names = ", ".join(layer.name for layer in layers)
        raise InputError(f"where={where!r} selects no layer; the model has {names}")
    return selection


def assign(variant: Variants, layers: Sequence[Layer]) -> dict[int, Variant]:
    """Return the variant of each selected layer that can be swapped, by index.

    Raises:
        InputError: a variant is unknown, or the length of a sequence fits neither stages nor layers.
    """
    able = [layer for layer in layers if layer.reason_left_alone is None]
    if isinstance(variant, (str, Mapping, Variant)):
        one = parse_variant(variant)
        return {layer.index: one for layer in able}
    if not isinstance(variant, Sequence):
        raise InputError(f"variant={variant!r} is neither a variant, nor the name of one, nor a sequence of these")
    each = [parse_variant(item) for item in variant]
    if len(each) == len(able):
        return {layer.index: one for layer, one in zip(able, each, strict=True)}
    stages = sorted({layer.stage for layer in able})
    if len(each) == len(stages):
        by_stage = dict(zip(stages, each, strict=True))
        return {layer.index: by_stage[layer.stage] for layer in able}
    depths = [sum(layer.stage == stage for layer in able) for stage in stages]
    raise InputError(
        f"{len(each)} variants were given for {len(able)} layers in {len(stages)} stages of {depths}; give one "
        "variant, one per stage or one per layer"
    )
