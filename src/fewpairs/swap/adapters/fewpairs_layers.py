"""Adapter of fewpairs' own layer `MultiHead`, as in CvT and SETR."""

from __future__ import annotations

import copy
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from fewpairs.attention import LinearProjection, MultiHead, ReducedProjection, Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows
from fewpairs.types import Grid


class SwappedMultiHead(SwappedModule, MultiHead):
    """Maps `[b n c], Grid -> [b n c]`; a variant without queries removes their part of the projection."""

    def __init__(self, old: Any, variant: Variant) -> None:
        scale = getattr(old, "logit_factor", old.core.scale)
        super().__init__(old, variant, old.heads, old.dim_head, scale=scale, fused=old.core.fused_attn)
        self.core.attn_drop = old.core.attn_drop
        if not self.queries and "q" in old.variant.roles:
            self.project = _without_queries(old.project)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        bias = None if self.bias is None else self.bias(grid)
        mixed = self.mix(*self.project(x, grid), bias=bias, grid=grid)
        projected: Tensor = self.dropout(self.out(rearrange(mixed, "b h n d -> b n (h d)")))
        return projected


def _without_queries(project: Any) -> nn.Module:
    """Return a copy of the projection that has only keys and values."""
    kept: Any = copy.copy(project)
    kept.roles, kept._modules = "kv", project._modules.copy()
    if isinstance(project, LinearProjection):
        kept.linear = without_rows(project.linear, project.linear.out_features // 3)
    elif isinstance(project, ReducedProjection):
        kept.query = None
    else:
        for name in ("conv", "norm", "linear"):
            setattr(
                kept, name, nn.ModuleDict({role: part for role, part in kept._modules[name].items() if role != "q"})
            )
    layer: nn.Module = kept
    return layer


def _heads(layer: Any) -> tuple[int, int]:
    return layer.heads, layer.dim_head


def _bias(layer: Any) -> str | None:
    return None if layer.bias is None else "a bias"


def _strided(layer: Any) -> str | None:
    stride = layer.project.key_stride
    return None if stride == 1 else f"there is one key for {stride} x {stride} queries"


def _queries(layer: Any) -> str | None:
    return refuse_slicing(layer.project, "linear") if isinstance(layer.project, LinearProjection) else None


def _no_queries(layer: Any, variant: Variant) -> str | None:
    if "q" in variant.roles and "q" not in layer.variant.roles:
        return f"it was built with {layer.variant} and has no query weights, which {variant} needs"
    return None


ADAPTERS = (
    Adapter(
        "fewpairs",
        ("fewpairs.attention.multihead.MultiHead",),
        _heads,
        SwappedMultiHead,
        bias=_bias,
        strided=_strided,
        queries=_queries,
        lacks=_no_queries,
        knows_grid=True,
    ),
)
