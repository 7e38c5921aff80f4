"""timm's plain self-attention (ViT, DeiT, DINO, DINOv2, PiT) and similar layers (VOLO, MetaFormer, RelPos ViT)."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from timm.layers import Attention
from timm.models.metaformer import Attention as MetaFormerAttention
from timm.models.vision_transformer_relpos import RelPosAttention
from timm.models.volo import Attention as VoloAttention
from torch import Tensor

from fewpairs.swap.adapters.joint import JointAttention, joint_adapter, scores_mask


class SwappedAttention(JointAttention, Attention):
    """Maps `[b n c] -> [b n c]`; queries, keys and the output of the heads may be normalised, the output gated."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        bias = scores_mask(x.shape[1], attn_mask, is_causal, x.device)
        mixed = self.mix(*self.normed(self.split(self.joint(x))), bias=bias)
        return gated_out(self, x, mixed)


def gated_out(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Join the heads, apply the layer's norm, gate (if it has one) and output projection; return `[b n c]`."""
    mixed = layer.norm(rearrange(mixed, "b h n d -> b n (h d)"))
    if (gate := getattr(layer, "gate", None)) is not None:
        mixed = mixed * gate(x).sigmoid()
    projected: Tensor = layer.proj_drop(layer.proj(mixed))
    return projected


class SwappedRelPosAttention(JointAttention, RelPosAttention):
    """Maps `[b n c] -> [b n c]`; relative positions of the layer, or shared ones, are added to the scores."""

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        bias = shared_rel_pos if self.rel_pos is None else self.rel_pos.get_bias()
        return self.out(self.mix(*self.normed(self.split(self.joint(x))), bias=bias))


class SwappedMetaFormerAttention(JointAttention, MetaFormerAttention):
    """Replaces MetaFormer's attention, `[b n c] -> [b n c]`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(*self.split(self.joint(x))))


class SwappedVoloAttention(JointAttention, VoloAttention):
    """Replaces VOLO's attention, `[b H W c] -> [b H W c]`."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(x, "b H W c -> b (H W) c")
        mixed = self.out(self.mix(*self.split(self.joint(tokens))))
        return rearrange(mixed, "b (H W) c -> b H W c", H=x.shape[1])


def _rel_pos(layer: Any) -> str:
    return "relative positions that all layers share" if layer.rel_pos is None else "a bias of relative positions"


ADAPTERS = (
    joint_adapter(
        "ViT (timm)",
        ("timm.layers.attention.Attention", "timm.models.vision_transformer.Attention"),
        SwappedAttention,
    ),
    joint_adapter(
        "ViT with relative positions (timm)",
        ("timm.models.vision_transformer_relpos.RelPosAttention",),
        SwappedRelPosAttention,
        bias=_rel_pos,
    ),
    joint_adapter("MetaFormer (timm)", ("timm.models.metaformer.Attention",), SwappedMetaFormerAttention),
    joint_adapter("VOLO (timm)", ("timm.models.volo.Attention",), SwappedVoloAttention),
)
