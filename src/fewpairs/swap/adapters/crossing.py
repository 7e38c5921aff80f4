"""timm layers with separate projections and queries of few or of pooled tokens: CaiT, CrossViT, NextViT and others."""

from __future__ import annotations

from typing import Any

from einops import rearrange, repeat
from timm.layers import AttentionPoolLatent, use_fused_attn
from timm.layers.attention2d import MultiQueryAttention2d
from timm.models.cait import ClassAttn
from timm.models.crossvit import CrossAttention
from timm.models.efficientformer_v2 import Attention2dDownsample
from timm.models.nextvit import EfficientAttention
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.module import SwappedModule


class _Separate(SwappedModule):
    """A layer whose queries, keys and values have a linear map each, of tokens that may differ."""

    def __init__(self, old: Any, variant: Variant) -> None:
        fused = getattr(old, "fused_attn", use_fused_attn())
        super().__init__(old, variant, *_heads(old), scale=old.scale, fused=fused)

    def apart(self, x: Tensor) -> Tensor:
        """Split the heads, `[b n (h d)] -> [b h n d]`."""
        return rearrange(x, "b n (h d) -> b h n d", h=self.core.heads)

    def out(self, mixed: Tensor) -> Tensor:
        """Join the heads and apply the output projection: `[b h n d] -> [b n c]`."""
        projected: Tensor = self.proj_drop(self.proj(rearrange(mixed, "b h n d -> b n (h d)")))
        return projected


class SwappedClassAttn(_Separate, ClassAttn):
    """CaiT's class attention, `[b n c] -> [b 1 c]`: the class token attends to all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(*map(self.apart, (self.q(x[:, :1]), self.k(x), self.v(x)))))


class SwappedCrossAttention(_Separate, CrossAttention):
    """CrossViT's layer between branches, `[b n c] -> [b 1 c]`: the class token attends to the other branch."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(*map(self.apart, (self.wq(x[:, :1]), self.wk(x), self.wv(x)))))


class SwappedEfficientAttention(_Separate, EfficientAttention):
    """NextViT's layer, `[b n c] -> [b n c]`; keys may be means of neighbours in the sequence."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries:
            del self.q

    def forward(self, x: Tensor) -> Tensor:
        places = x if self.sr is None else self.norm(self.sr(x.transpose(1, 2))).transpose(1, 2)
        queries = [self.q(x)] if self.queries else []
        return self.out(self.mix(*map(self.apart, (*queries, self.k(places), self.v(places)))))


class SwappedAttentionPoolLatent(_Separate, AttentionPoolLatent):
    """timm's pooling by learned queries, `[b n c] -> [b c]`, with the layers that follow it."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        x = x if self.pos_embed is None else x + self.pos_embed.unsqueeze(0).to(x.dtype)
        q = self.apart(self.q(self.latent.expand(x.shape[0], -1, -1)))
        k, v = rearrange(self.kv(x), "b n (roles h d) -> roles b h n d", roles=2, h=self.core.heads)
        x = self.out(self.mix(self.q_norm(q), self.k_norm(k), v, bias=attn_mask))
        x = x if self.mlp is None else x + self.mlp(self.norm(x))
        return x[:, 0] if self.pool == "token" else x.mean(1) if self.pool == "avg" else x


class SwappedAttention2dDownsample(SwappedModule, Attention2dDownsample):
    """EfficientFormer V2's layer between stages, `[b c H W] -> [b c H/2 W/2]`; timm's copy of the table is not used."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.key_dim, scale=old.scale, fused=bool(use_fused_attn()))
        self.attention_bias_cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        values = self.v(x)
        roles = self.q(x), self.k(x), values
        apart = (rearrange(role, "b (h d) H W -> b h (H W) d", h=self.num_heads) for role in roles)
        mixed = self.mix(*apart, bias=self.attention_biases[:, self.attention_bias_idxs])
        mixed = rearrange(mixed, "b h (H W) d -> b (h d) H W", H=self.resolution2[0])
        projected: Tensor = self.proj(self.act(mixed.contiguous() + self.v_local(values)))
        return projected


class SwappedMultiQueryAttention2d(SwappedModule, MultiQueryAttention2d):
    """MobileNet's layer, `[b c H W] -> [b c H W]`: all heads have the same keys and values, which may be pooled."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.key_dim, scale=old.scale, fused=old.fused_attn)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        q = rearrange(self.query(x), "b (h d) H W -> b h (H W) d", h=self.num_heads)
        k, v = (repeat(role(x), "b d H W -> b h (H W) d", h=self.num_heads) for role in (self.key, self.value))
        height = x.shape[2] // self.query_strides[0]
        mixed = rearrange(self.mix(q, k, v, bias=attn_mask), "b h (H W) d -> b (h d) H W", H=height)
        projected: Tensor = self.output(mixed.contiguous())
        return projected


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, round(layer.scale**-2)


def _one_query(_layer: Any) -> str:
    return "there is one query, the class token, for all keys"


def _pooled_keys(layer: Any) -> str | None:
    return None if layer.sr is None else f"there is one key for {layer.N_ratio} queries"


def _table(_layer: Any) -> str:
    return "a table of relative positions"


def _half(_layer: Any) -> str:
    return "there is one query for 2 x 2 keys"


def _learned(_layer: Any) -> str:
    return "its queries are learned, and are no tokens of the image"


def _shared_key(_layer: Any) -> str:
    return "all heads have one key, so that without queries all would be the same"


def _key_heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.key_dim


ADAPTERS = (
    Adapter(
        "CaiT's class attention (timm)", ("timm.models.cait.ClassAttn",), _heads, SwappedClassAttn, strided=_one_query
    ),
    Adapter(
        "CrossViT, between branches (timm)",
        ("timm.models.crossvit.CrossAttention",),
        _heads,
        SwappedCrossAttention,
        strided=_one_query,
    ),
    Adapter(
        "NextViT (timm)",
        ("timm.models.nextvit.EfficientAttention",),
        _heads,
        SwappedEfficientAttention,
        strided=_pooled_keys,
    ),
    Adapter(
        "Pooling by learned queries (timm)",
        ("timm.layers.attention_pool.AttentionPoolLatent",),
        _heads,
        SwappedAttentionPoolLatent,
        strided=_learned,
    ),
    Adapter(
        "EfficientFormer V2, between stages (timm)",
        ("timm.models.efficientformer_v2.Attention2dDownsample",),
        _key_heads,
        SwappedAttention2dDownsample,
        bias=_table,
        strided=_half,
    ),
    Adapter(
        "Multi-query attention of MobileNet (timm)",
        ("timm.layers.attention2d.MultiQueryAttention2d",),
        _key_heads,
        SwappedMultiQueryAttention2d,
        queries=_shared_key,
    ),
)
