"""Adapters of all known attention layers, with one module for each group of similar families.

Importing this package registers them, by the same function with which anybody adds one.
"""

from __future__ import annotations

from fewpairs.swap.adapters import (
    crossing,
    fewpairs_layers,
    headwise,
    other,
    pooled,
    rope,
    strided,
    torch_multihead,
    torchvision,
    transformers,
    unpaired,
    vit,
    windowed,
)
from fewpairs.swap.registry import register_adapter

_TIMM = (vit, rope, windowed, strided, headwise, pooled, crossing, other, unpaired)

for module in (*_TIMM, fewpairs_layers, torch_multihead, torchvision, transformers):
    for adapter in module.ADAPTERS:
        register_adapter(adapter)
