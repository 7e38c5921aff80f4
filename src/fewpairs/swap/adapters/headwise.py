"""timm layers whose projection `qkv` holds the roles of each head together: MaxViT, TinyViT, LeViT and similar.

Without queries `qkv` becomes `kv`, which keeps the keys and values of each head in their order.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from timm.layers import use_fused_attn
from timm.models.efficientformer import Attention as EfficientFormerAttention
from timm.models.levit import Attention as LevitAttention
from timm.models.levit import AttentionDownsample
from timm.models.maxxvit import Attention2d, AttentionCl
from timm.models.tiny_vit import Attention as TinyVitAttention
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import joint_adapter, split_heads
from fewpairs.swap.module import SwappedModule, without_rows


class Headwise(SwappedModule):
    """A layer with a projection `qkv`, in which each head has its queries, keys and values after one another.

    Args:
        blocks: the number of heads, or 1 if the projection has all queries first, as other layers do.
    """

    def __init__(self, old: Any, variant: Variant, heads: int, dim_head: int, blocks: int) -> None:
        fused = getattr(old, "fused_attn", use_fused_attn())
        super().__init__(old, variant, heads, dim_head, scale=old.scale, fused=fused)
        self.blocks = blocks
        if not self.queries:
            self.kv = without_rows(old.qkv, heads * dim_head // blocks, blocks)
            del self.qkv

    def roles(self, tokens: Tensor, width: int | None = None) -> tuple[Tensor, ...]:
        """Split the projection's output `[b n c]` into one `[b h n d]` for each role; values are `width` wide."""
        heads, dim_head, count = self.core.heads, self.core.dim_head, 3 if self.queries else 2
        if self.blocks == 1:
            return split_heads(tokens, heads, count)
        widths = [*[dim_head] * (count - 1), dim_head if width is None else width]
        return torch.split(rearrange(tokens, "b n (h d) -> b h n d", h=heads), widths, dim=-1)

    def project(self, x: Tensor) -> Tensor:
        """Apply `qkv` or `kv`."""
        projected: Tensor = self.qkv(x) if self.queries else self.kv(x)
        return projected


class _MaxVit(Headwise):
    """An attention of MaxViT and CoAtNet, whose heads may be together or not."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_maxvit_heads(old), blocks=old.num_heads if old.head_first else 1)

    def scores_bias(self, shared: Tensor | None) -> Tensor | None:
        """Return the relative positions of the layer, or those that layers share."""
        return shared if self.rel_pos is None else self.rel_pos.get_bias()


class SwappedAttention2d(_MaxVit, Attention2d):
    """Maps `[b c H W] -> [b c H W]` with 1 x 1 convolutions as projections, over a window, a grid or the whole map."""

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        roles = self.roles(rearrange(self.project(x), "b c H W -> b (H W) c"))
        mixed = rearrange(
            self.mix(*roles, bias=self.scores_bias(shared_rel_pos)), "b h (H W) d -> b (h d) H W", H=x.shape[2]
        )
        projected: Tensor = self.proj_drop(self.proj(mixed.contiguous()))
        return projected


class SwappedAttentionCl(_MaxVit, AttentionCl):
    """Maps `[b ... c] -> [b ... c]` over all places between batch and channels, of a window or of a grid."""

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        roles = self.roles(self.project(x).flatten(1, -2))
        mixed = rearrange(self.mix(*roles, bias=self.scores_bias(shared_rel_pos)), "b h n d -> b n (h d)")
        projected: Tensor = self.proj_drop(self.proj(mixed.reshape(*x.shape[:-1], mixed.shape[-1])))
        return projected


class _Table(Headwise):
    """A layer that adds a table of relative positions to its scores, of which timm keeps a copy in evaluation.

    The copy would outlive new weights, so the table is read at each call.
    """

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_table_heads(old), blocks=old.num_heads)
        self.attention_bias_cache: dict[str, Tensor] = {}

    def table(self) -> Tensor:
        """Return the bias `[h n m]`."""
        bias: Tensor = self.attention_biases[:, self.attention_bias_idxs]
        return bias


class SwappedTinyVitAttention(_Table, TinyVitAttention):
    """TinyViT's windows, `[w n c] -> [w n c]`; the layer has its own norm."""

    def forward(self, x: Tensor) -> Tensor:
        roles = self.roles(self.project(self.norm(x)), self.val_dim)
        projected: Tensor = self.proj(rearrange(self.mix(*roles, bias=self.table()), "b h n d -> b n (h d)"))
        return projected


class SwappedEfficientFormerAttention(_Table, EfficientFormerAttention):
    """Replaces EfficientFormer's attention, `[b n c] -> [b n c]`, whose values are wider than its keys."""

    def forward(self, x: Tensor) -> Tensor:
        roles = self.roles(self.project(x), self.val_dim)
        projected: Tensor = self.proj(rearrange(self.mix(*roles, bias=self.table()), "b h n d -> b n (h d)"))
        return projected


class SwappedLevitAttention(_Table, LevitAttention):
    """Replaces LeViT's attention, `[b n c] -> [b n c]` or `[b c H W] -> [b c H W]` with convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        roles = self.roles(as_tokens(self, self.project(x)), self.val_dim)
        mixed = rearrange(self.mix(*roles, bias=self.table()), "b h n d -> b n (h d)")
        projected: Tensor = self.proj(as_map(mixed, x) if self.use_conv else mixed)
        return projected


class SwappedAttentionDownsample(SwappedModule, AttentionDownsample):
    """LeViT's attention between stages, with fewer queries than keys: `[b n c] -> [b m c]`, or of maps."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_table_heads(old), scale=old.scale, fused=use_fused_attn())
        self.attention_bias_cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        queries = self.q(x)
        q = rearrange(as_tokens(self, queries), "b n (h d) -> b h n d", h=self.num_heads)
        both = rearrange(as_tokens(self, self.kv(x)), "b n (h d) -> b h n d", h=self.num_heads)
        k, v = torch.split(both, [self.key_dim, self.val_dim], dim=-1)
        bias = self.attention_biases[:, self.attention_bias_idxs]
        mixed = rearrange(self.mix(q, k, v, bias=bias), "b h n d -> b n (h d)")
        projected: Tensor = self.proj(as_map(mixed, queries) if self.use_conv else mixed)
        return projected


def as_tokens(layer: Any, x: Tensor) -> Tensor:
    """Return tokens `[b n c]`, of a map if the layer projects by convolutions."""
    return rearrange(x, "b c H W -> b (H W) c") if layer.use_conv else x


def as_map(mixed: Tensor, like: Tensor) -> Tensor:
    """Return the map `[b c H W]` of tokens `[b n c]`, as large as `like`."""
    return rearrange(mixed, "b (H W) c -> b c H W", H=like.shape[2]).contiguous()


def _maxvit_heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.dim_head


def _maxvit_bias(layer: Any) -> str:
    return "relative positions that layers may share" if layer.rel_pos is None else "a bias of relative positions"


def _table_heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.key_dim


def _table(_layer: Any) -> str:
    return "a table of relative positions"


def _joint_norm(_layer: Any) -> str:
    return "its queries, keys and values share one batch norm, which is not taken apart"


def _fewer_queries(layer: Any) -> str:
    return f"there is one query for {layer.stride} x {layer.stride} keys"


ADAPTERS = (
    joint_adapter(
        "MaxViT and CoAtNet (timm)",
        ("timm.models.maxxvit.Attention2d",),
        SwappedAttention2d,
        bias=_maxvit_bias,
        heads=_maxvit_heads,
    ),
    joint_adapter(
        "MaxViT and CoAtNet (timm)",
        ("timm.models.maxxvit.AttentionCl",),
        SwappedAttentionCl,
        bias=_maxvit_bias,
        heads=_maxvit_heads,
    ),
    joint_adapter(
        "TinyViT (timm)", ("timm.models.tiny_vit.Attention",), SwappedTinyVitAttention, bias=_table, heads=_table_heads
    ),
    joint_adapter(
        "EfficientFormer (timm)",
        ("timm.models.efficientformer.Attention",),
        SwappedEfficientFormerAttention,
        bias=_table,
        heads=_table_heads,
    ),
    Adapter(
        "LeViT (timm)",
        ("timm.models.levit.Attention",),
        _table_heads,
        SwappedLevitAttention,
        bias=_table,
        queries=_joint_norm,
    ),
    Adapter(
        "LeViT (timm)",
        ("timm.models.levit.AttentionDownsample",),
        _table_heads,
        SwappedAttentionDownsample,
        bias=_table,
        strided=_fewer_queries,
    ),
)
