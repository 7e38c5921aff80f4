"""timm layers that project queries separately from keys and values, whose positions may differ.

PVT v2 and the global layers of Twins reduce the map before projecting keys; VOLO's class attention has one query.
"""

from __future__ import annotations

from typing import Any

from einops import rearrange
from timm.layers import use_fused_attn
from timm.models.pvt_v2 import Attention as PvtAttention
from timm.models.twins import GlobalSubSampleAttn
from timm.models.volo import ClassAttention
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import split_heads
from fewpairs.swap.module import SwappedModule


class SeparateQuery(SwappedModule):
    """A layer with projections `q` and `kv`; a variant without queries removes `q`."""

    def __init__(self, old: Any, variant: Variant, fused: bool) -> None:
        super().__init__(old, variant, *query_heads(old), scale=old.scale, fused=fused)
        if not self.queries:
            del self.q

    def roles(self, x: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """Project queries (if the variant has them) from `x [b n c]`, keys and values from `places [b m c]`."""
        keys_and_values = split_heads(self.kv(places), self.core.heads, 2)
        return (*split_heads(self.q(x), self.core.heads, 1), *keys_and_values) if self.queries else keys_and_values

    def out(self, mixed: Tensor) -> Tensor:
        """Join the heads and apply the output projection: `[b h n d] -> [b n c]`."""
        projected: Tensor = self.proj_drop(self.proj(rearrange(mixed, "b h n d -> b n (h d)")))
        return projected


class SwappedPvtAttention(SeparateQuery, PvtAttention):
    """Maps `[b n c] -> [b n c]`; keys come from a convolution, or from 7 x 7 pooling in the linear models."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, fused=old.fused_attn)

    def forward(self, x: Tensor, feat_size: tuple[int, int]) -> Tensor:
        return self.out(self.mix(*self.roles(x, self.shrunk(x, feat_size))))

    def shrunk(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Reduce the tokens to those that give keys and values, `[b n c] -> [b m c]`."""
        if self.sr is None:
            return x
        image = rearrange(x, "b (H W) c -> b c H W", H=size[0])
        image = self.sr(image if self.pool is None else self.pool(image))
        places: Tensor = self.norm(rearrange(image, "b c H W -> b (H W) c"))
        return places if self.act is None else self.act(places)


class SwappedGlobalSubSampleAttn(SeparateQuery, GlobalSubSampleAttn):
    """Maps `[b n c] -> [b n c]`; keys come from a strided convolution."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, fused=old.fused_attn)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.out(self.mix(*self.roles(x, self.shrunk(x, size))))

    def shrunk(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Reduce the tokens to those that give keys and values, `[b n c] -> [b m c]`."""
        if self.sr is None:
            return x
        image = self.sr(rearrange(x, "b (H W) c -> b c H W", H=size[0]))
        places: Tensor = self.norm(rearrange(image, "b c H W -> b (H W) c"))
        return places


class SwappedClassAttention(SeparateQuery, ClassAttention):
    """Maps `[b n c] -> [b 1 c]`: the class token, the first one, attends to all tokens."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, fused=use_fused_attn())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(*self.roles(x[:, :1], x)))


def query_heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.q.out_features // layer.num_heads


def _pvt_stride(layer: Any) -> str | None:
    if layer.pool is not None:
        return "there are 7 x 7 keys, pooled from the whole map"
    return None if layer.sr is None else _stride(layer.sr)


def _twins_stride(layer: Any) -> str | None:
    return None if layer.sr is None else _stride(layer.sr)


def _stride(reduction: Any) -> str:
    return f"there is one key for {reduction.stride[0]} x {reduction.stride[1]} queries"


def _one_query(_layer: Any) -> str:
    return "there is one query, the class token, for all keys"


ADAPTERS = (
    Adapter("PVT v2 (timm)", ("timm.models.pvt_v2.Attention",), query_heads, SwappedPvtAttention, strided=_pvt_stride),
    Adapter(
        "Twins, global (timm)",
        ("timm.models.twins.GlobalSubSampleAttn",),
        query_heads,
        SwappedGlobalSubSampleAttn,
        strided=_twins_stride,
    ),
    Adapter(
        "VOLO's class attention (timm)",
        ("timm.models.volo.ClassAttention",),
        query_heads,
        SwappedClassAttention,
        strided=_one_query,
    ),
)
