"""Adapters of all known attention layers, with one module for each group of similar families.

Importing this package registers them, by the same function with which anybody adds one.
"""

from __future__ import annotations

from fewpairs.swap.adapters import (
    crossing,
    fewpairs_layers,
    headwise,
    monai,
    open_clip,
    other,
    pooled,
    rope,
    smp,
    strided,
    torch_multihead,
    torchvision,
    transformers,
    transformers_own,
    unpaired,
    vit,
    windowed,
)
from fewpairs.swap.registry import register_adapter

_TIMM = (vit, rope, windowed, strided, headwise, pooled, crossing, other, unpaired)
_OTHERS = (fewpairs_layers, torch_multihead, torchvision, transformers, transformers_own, monai, smp, open_clip)

for module in (*_TIMM, *_OTHERS):
    for adapter in module.ADAPTERS:
        register_adapter(adapter)
