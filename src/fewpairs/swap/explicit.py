"""Attention with explicit weights, for layers that return them."""

from __future__ import annotations

from torch import Tensor

from fewpairs.swap.module import SwappedModule


def mix_and_weights(layer: SwappedModule, *roles: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Do as `layer.mix`, and return the result `[b h n d]` and the weights `[b h n m]` after dropout."""
    *logits, values = roles
    weights: Tensor = layer.core.attn_drop(layer.core.weights(*(role * layer.role_scale for role in logits), bias=bias))
    return weights @ values.to(weights.dtype), weights
