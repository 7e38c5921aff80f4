"""Finds the attention layers of a model, and tells which of them can be swapped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter, Unsupported
from fewpairs.swap.condition import refuse_condition, unknown_type, wrapped_by
from fewpairs.swap.interface import BY_NAME, calls_interface
from fewpairs.swap.module import SwappedModule, original_class
from fewpairs.swap.registry import adapter_of


@dataclass(frozen=True)
class Layer:
    """One attention layer of a model."""

    name: str
    """The name of the module, as in `model.get_submodule(name)`."""
    index: int
    """The position of the layer in the list, from 0."""
    stage: int
    """The stage, from 0; layers whose names differ only in the last number share a stage."""
    family: str
    heads: int | None
    dim_head: int | None
    """The width of one head; it and `heads` are None if the layer cannot be swapped."""
    reason_left_alone: str | None = None
    """The reason why the layer cannot be swapped, or None."""
    variant: Variant | None = None
    """The variant of the layer, if it is one of fewpairs or was swapped."""


@dataclass(frozen=True)
class Found:
    """A layer with its module and adapter."""

    layer: Layer
    module: nn.Module
    adapter: Adapter | None


def find_layers(model: nn.Module) -> list[Found]:
    """Return all attention layers of a model in module order, except layers inside other attention layers."""
    stages: dict[str, int] = {}
    found: list[Found] = []
    for name, module, kind in _attention_modules(model):
        stage = stages.setdefault(_stage_of(name), len(stages))
        wrapped = wrapped_by(model.get_submodule(name.rpartition(".")[0]), name)
        found.append(_found(name, len(found), stage, module, kind, wrapped))
    return found


def describe(model: nn.Module) -> list[Layer]:
    """Return the attention layers that `swap_attention` finds in a model, which does not change."""
    return [found.layer for found in find_layers(model)]


def _attention_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module, Adapter | Unsupported | None]]:
    """Yield name, module and adapter, which is None for an unknown type with attention in its name."""
    inside: tuple[str, ...] = ()
    seen: list[tuple[str, nn.Module, Adapter | Unsupported | None]] = []
    for name, module in model.named_modules():
        if name.startswith(inside):
            continue
        kind = adapter_of(type(module))
        if kind is not None or isinstance(module, SwappedModule):
            inside = (*inside, f"{name}." if name else "")
        elif not _looks_like_attention(type(module)):
            continue
        seen.append((name, module, kind))
    names = [name for name, _, _ in seen]
    for name, module, kind in seen:
        holds_another = any(other.startswith(f"{name}." if name else "") for other in names if other != name)
        if kind is not None or isinstance(module, SwappedModule) or not holds_another:
            yield name, module, kind


def _looks_like_attention(kind: type) -> bool:
    """Whether the class has attention in its name or derives from a known layer, which its adapter may not fit."""
    return any(re.search("Attention|Attn", base.__name__) or adapter_of(base) for base in kind.__mro__)


def _stage_of(name: str) -> str:
    """Return the name before its last number: `layers.1.blocks.` for `layers.1.blocks.0.attn`."""
    numbered = list(re.finditer(r"\d+(?=\.|$)", name))
    return name[: numbered[-1].start()] if numbered else ""


def _found(
    name: str, index: int, stage: int, module: nn.Module, kind: Adapter | Unsupported | None, wrapped: str | None
) -> Found:
    reason = wrapped or refuse_condition(module)
    if isinstance(module, SwappedModule):
        core = module.core
        layer = Layer(name, index, stage, module.family, core.heads, core.dim_head, reason, core.variant)
        adapter = adapter_of(original_class(module))
        return Found(layer, module, adapter if reason is None and isinstance(adapter, Adapter) else None)
    if isinstance(kind, Adapter):
        variant = getattr(getattr(module, "core", None), "variant", None)
        if reason is None:
            try:
                sizes = kind.heads(module)
            except AttributeError as error:  # somebody put another module in the place of one of its own
                reason = f"it was changed, so that the numbers of its heads cannot be read ({error})"
        if reason is not None:
            return Found(Layer(name, index, stage, kind.family, None, None, reason, variant), module, None)
        return Found(Layer(name, index, stage, kind.family, *sizes, variant=variant), module, kind)
    if isinstance(kind, Unsupported):
        return Found(Layer(name, index, stage, kind.family, None, None, kind.reason), module, None)
    reason = unknown_type(module)
    if calls_interface(module):
        reason += f"; k-NN attention serves it without a swap: {BY_NAME}"
    return Found(Layer(name, index, stage, type(module).__name__, None, None, reason), module, None)
