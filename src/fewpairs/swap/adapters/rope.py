"""timm's attention with rotary positions: EVA, DINOv3, and ViTs with RoPE. Prefix tokens are not rotated."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import scores_mask, split_heads
from fewpairs.swap.adapters.vit import gated_out
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows


class _Rotary(SwappedModule):
    """Maps `[b n c] -> [b n c]` with rotary position embedding and one joint or separate projections."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_heads(old), scale=old.scale, fused=old.fused_attn)
        if self.queries:
            return
        if old.qkv is None:
            self._modules["q_proj"] = None
        else:
            self.kv = without_rows(old.qkv, self.core.heads * self.core.dim_head)
            del self.qkv
        del self.q_norm

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        *logits, v = self.projected(x)
        norms = (self.q_norm, self.k_norm) if self.queries else (self.k_norm,)
        logits = [norm(role) for norm, role in zip(norms, logits, strict=True)]
        if rope is not None:
            logits = [self.rotated(role, rope).type_as(v) for role in logits]
        groups = getattr(self, "num_kv_groups", 1)
        *queries, k, v = (*logits, v) if groups == 1 else (*logits[:-1], *_repeat_groups([logits[-1], v], groups))
        bias = scores_mask(x.shape[1], attn_mask, is_causal, x.device)
        return gated_out(self, x, self.mix(*queries, k, v, bias=bias))

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return queries (if the variant has them), keys and values, `[b h n d]` each."""
        if self.k_proj is None:
            return split_heads(self.joint(x), self.core.heads, 3 if self.queries else 2)
        maps = (self.q_proj, self.k_proj, self.v_proj) if self.queries else (self.k_proj, self.v_proj)
        return tuple(rearrange(map_(x), "b n (h d) -> b h n d", d=self.core.dim_head) for map_ in maps)

    def joint(self, x: Tensor) -> Tensor:
        """Project all roles together, `[b n c] -> [b n roles*h*d]`."""
        projected: Tensor = self.qkv(x) if self.queries else self.kv(x)
        return projected

    def rotated(self, role: Tensor, rope: Tensor) -> Tensor:
        """Apply the rotary embedding to queries or keys, except to prefix tokens."""
        prefix, places = role.tensor_split([self.num_prefix_tokens], dim=2)
        half = getattr(self, "rotate_half", False)
        return torch.cat([prefix, apply_rot_embed_cat(places, rope, half=half)], dim=2)


class SwappedAttentionRope(_Rotary, AttentionRope):
    """Replaces timm's `AttentionRope`, including grouped queries: `[b n c] -> [b n c]`."""


class SwappedEvaAttention(_Rotary, EvaAttention):
    """Replaces EVA's attention, whose keys have no bias: `[b n c] -> [b n c]`."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries:
            self.q_bias = None

    def joint(self, x: Tensor) -> Tensor:
        return biased_joint(self, x)


def biased_joint(layer: Any, x: Tensor) -> Tensor:
    """Apply the joint projection of a layer with separate biases per role; that of the keys is zero."""
    weights = layer.qkv if layer.queries else layer.kv
    if layer.v_bias is None:
        projected: Tensor = weights(x)
        return projected
    bias = torch.cat([b for b in (layer.q_bias, layer.k_bias, layer.v_bias) if b is not None])
    return weights(x).add_(bias) if layer.qkv_bias_separate else F.linear(x, weights.weight, bias)


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.proj.in_features // layer.num_heads


def _repeat_groups(roles: list[Tensor], groups: int) -> list[Tensor]:
    """Repeat keys and values for every head that shares them: `[b g n d] -> [b h n d]`."""
    return [repeat(role, "b g n d -> b (g groups) n d", groups=groups) for role in roles]


def _joint_or_apart(layer: Any) -> str | None:
    return None if layer.qkv is None else refuse_slicing(layer, "qkv")


def _adapter(family: str, matches: str, build: type[_Rotary]) -> Adapter:
    return Adapter(family, (matches,), _heads, build, queries=_joint_or_apart, renames={"qkv": "kv"})


ADAPTERS = (
    _adapter("EVA and DINOv3 (timm)", "timm.models.eva.EvaAttention", SwappedEvaAttention),
    _adapter("ViT with rotary positions (timm)", "timm.layers.attention.AttentionRope", SwappedAttentionRope),
)
