"""Adapters of all known attention layers, with one module for each group of similar families.

Importing this package registers them, by the same function with which anybody adds one.
"""

from __future__ import annotations

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
from fewpairs.swap.registry import register_adapter

for module in (vit, rope, windowed, strided, other, fewpairs_layers, torch_multihead, torchvision, transformers):
    for adapter in module.ADAPTERS:
        register_adapter(adapter)
