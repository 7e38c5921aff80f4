"""timm layers with unusual projections or tokens: TNT, Visformer, NesT, FastViT and the encoder of SAM."""

from __future__ import annotations

from functools import partial
from typing import Any

from einops import rearrange
from timm.layers import apply_rot_embed_cat, use_fused_attn
from timm.models.fastvit import Attention as FastVitAttention
from timm.models.nest import Attention as NestAttention
from timm.models.tnt import Attention as TntAttention
from timm.models.visformer import Attention as VisformerAttention
from timm.models.vision_transformer_sam import Attention as SamAttention
from timm.models.vision_transformer_sam import get_decomposed_rel_pos_bias
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import JointAttention, experimental_fused, joint_adapter, split_heads
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows


class SwappedTntAttention(SwappedModule, TntAttention):
    """Maps `[b n c] -> [b n c]`, over patches or over the pixels of a patch; without queries `qk` becomes `k`."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.head_dim, scale=old.scale, fused=use_fused_attn())
        if not self.queries:
            self.k = without_rows(old.qk, old.hidden_dim)
            del self.qk

    def forward(self, x: Tensor) -> Tensor:
        joint = self.qk if self.queries else self.k
        logits = split_heads(joint(x), self.core.heads, 2 if self.queries else 1)
        values = split_heads(self.v(x), self.core.heads, 1)
        mixed = rearrange(self.mix(*logits, *values), "b h n d -> b n (h d)")
        projected: Tensor = self.proj_drop(self.proj(mixed))
        return projected


class SwappedVisformerAttention(SwappedModule, VisformerAttention):
    """Maps `[b c H W] -> [b c H W]` with 1 x 1 convolutions as projections; without queries `qkv` becomes `kv`."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.head_dim, scale=old.scale, fused=experimental_fused(old))
        if not self.queries:
            self.kv = without_rows(old.qkv, old.num_heads * old.head_dim)
            del self.qkv

    def forward(self, x: Tensor) -> Tensor:
        joint, height = self.qkv if self.queries else self.kv, x.shape[2]
        pattern = "b (roles h d) H W -> roles b h (H W) d"
        roles = rearrange(joint(x), pattern, roles=3 if self.queries else 2, h=self.core.heads)
        mixed = rearrange(self.mix(*roles), "b h (H W) d -> b (h d) H W", H=height)
        projected: Tensor = self.proj_drop(self.proj(mixed))
        return projected


class SwappedNestAttention(JointAttention, NestAttention):
    """NesT's layer, `[b t n c] -> [b t n c]`, within each block t of the image; heads alternate in its output."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(*self.split(self.joint(x.flatten(0, 1))))
        projected: Tensor = self.proj_drop(self.proj(rearrange(mixed, "b h n d -> b n (d h)").reshape(x.shape)))
        return projected


class SwappedFastVitAttention(JointAttention, FastVitAttention):
    """Replaces FastViT's attention, `[b c H W] -> [b c H W]`."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.out(self.mix(*self.split(self.joint(rearrange(x, "b c H W -> b (H W) c")))))
        return rearrange(tokens, "b (H W) c -> b c H W", H=x.shape[2])


class SwappedSamAttention(JointAttention, SamAttention):
    """Maps `[b H W c] -> [b H W c]`, with rotary positions or a bias from queries and relative positions."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1], x.shape[2]
        roles = self.normed(self.split(self.joint(rearrange(x, "b H W c -> b (H W) c"))))
        bias = None
        if self.use_rel_pos:
            queries = rearrange(roles[0], "b h n d -> (b h) n d")
            bias = get_decomposed_rel_pos_bias(queries, self.rel_pos_h, self.rel_pos_w, size, size)
            bias = rearrange(bias, "(b h) n m -> b h n m", h=self.core.heads)
        elif self.rope is not None:
            *logits, v = roles
            roles = (*(apply_rot_embed_cat(role, self.rope.get_embed()).type_as(v) for role in logits), v)
        return rearrange(self.out(self.mix(*roles, bias=bias)), "b (H W) c -> b H W c", H=size[0])


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.head_dim


def _sam_bias(layer: Any) -> str | None:
    return "a bias of relative positions that depends on the queries" if layer.use_rel_pos else None


ADAPTERS = (
    Adapter(
        "TNT (timm)",
        ("timm.models.tnt.Attention",),
        _heads,
        SwappedTntAttention,
        queries=partial(refuse_slicing, name="qk"),
        renames={"qk": "k"},
    ),
    Adapter(
        "Visformer (timm)",
        ("timm.models.visformer.Attention",),
        _heads,
        SwappedVisformerAttention,
        queries=partial(refuse_slicing, name="qkv"),
        renames={"qkv": "kv"},
    ),
    joint_adapter("NesT (timm)", ("timm.models.nest.Attention",), SwappedNestAttention),
    joint_adapter("FastViT (timm)", ("timm.models.fastvit.Attention",), SwappedFastVitAttention),
    joint_adapter("SAM (timm)", ("timm.models.vision_transformer_sam.Attention",), SwappedSamAttention, bias=_sam_bias),
)
