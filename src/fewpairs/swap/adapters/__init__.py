"""Adapters of all known attention layers, with one module for each group of similar families."""

from __future__ import annotations

from fewpairs.swap.adapter import Adapter, Unsupported
from fewpairs.swap.adapters import (
    fewpairs_layers,
    other,
    rope,
    strided,
    torch_multihead,
    torchvision,
    transformers,
    vit,
    windowed,
)

ADAPTERS: tuple[Adapter | Unsupported, ...] = (
    *vit.ADAPTERS,
    *rope.ADAPTERS,
    *windowed.ADAPTERS,
    *strided.ADAPTERS,
    *other.ADAPTERS,
    *fewpairs_layers.ADAPTERS,
    *torch_multihead.ADAPTERS,
    *torchvision.ADAPTERS,
    *transformers.ADAPTERS,
)
"""All known types of attention layers, supported or not."""
