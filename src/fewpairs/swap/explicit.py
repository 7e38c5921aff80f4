"""Mixing with the weights made explicit, for layers that hand them out."""

from __future__ import annotations

from torch import Tensor

from fewpairs.swap.module import SwappedModule


def mix_and_weights(layer: SwappedModule, *roles: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`layer.mix`, and the weights after dropout: one `[b h n d]` for each role in, `[b h n d]` and `[b h n m]` out."""
    *logits, values = roles
    weights: Tensor = layer.core.attn_drop(layer.core.weights(*(role * layer.role_scale for role in logits), bias=bias))
    return weights @ values.to(weights.dtype), weights
