"""One module a group of families that are alike; `ADAPTERS` is the list of what is known."""

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
"""Every kind of attention layer that is known, whether it can be swapped or not."""
