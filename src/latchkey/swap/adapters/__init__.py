"""One module a group of families that are alike; `ADAPTERS` is the list of what is known."""

from __future__ import annotations

from latchkey.swap.adapter import Adapter, Refusal
from latchkey.swap.adapters import (
    latchkey_layers,
    other,
    rope,
    strided,
    torch_multihead,
    torchvision,
    transformers,
    vit,
    windowed,
)

ADAPTERS: tuple[Adapter | Refusal, ...] = (
    *vit.ADAPTERS,
    *rope.ADAPTERS,
    *windowed.ADAPTERS,
    *strided.ADAPTERS,
    *other.ADAPTERS,
    *latchkey_layers.ADAPTERS,
    *torch_multihead.ADAPTERS,
    *torchvision.ADAPTERS,
    *transformers.ADAPTERS,
)
"""Every kind of attention layer that is known, whether it can be swapped or not."""
