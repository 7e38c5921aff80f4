"""Layers of transformers that compute their own scores: Swin V2, MaskFormer's Swin and the encoder of SAM.

transformers is not imported here; the layers are recognised by name.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import split_heads
from fewpairs.swap.adapters.windowed import cosines, with_shift
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.explicit import mix_and_weights
from fewpairs.swap.interface import wants_weights
from fewpairs.swap.module import SwappedModule, original_class, without_rows

Output = tuple[Tensor] | tuple[Tensor, Tensor]


class _Windows(SwappedModule):
    """A layer over windows, `[(b w) n c] -> [(b w) n c]`; without queries its map `query` goes."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_window_heads(old))
        self.core.attn_drop = old.dropout
        if not self.queries:
            del self.query

    def roles(self, x: Tensor) -> list[Tensor]:
        """Return one `[b h n d]` for each role."""
        maps = (self.query, self.key, self.value) if self.queries else (self.key, self.value)
        return [rearrange(each(x), "b n (h d) -> b h n d", h=self.core.heads) for each in maps]

    def windows(self, roles: list[Tensor], bias: Tensor, maps: bool | None) -> Output:
        """Mix the heads and join them; return the weights too if `maps`."""
        if not maps:
            return (rearrange(self.mix(*roles, bias=bias), "b h n d -> b n (h d)"),)
        mixed, weights = mix_and_weights(self, *roles, bias=bias)
        return rearrange(mixed, "b h n d -> b n (h d)"), weights


class SwappedSwinv2SelfAttention(_Windows):
    """Swin V2's windows: cosines times a learned factor, a network's bias, and the mask twice, as in transformers."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, output_attentions: bool | None = False
    ) -> Output:
        *logits, v = self.roles(hidden_states)
        logits = cosines(self, logits, self.logit_scale)
        table = rearrange(self.continuous_position_bias_mlp(self.relative_coords_table), "1 y x h -> (y x) h")
        bias = 16 * torch.sigmoid(rearrange(table[self.relative_position_index], "n m h -> 1 h n m"))
        mask = None if attention_mask is None else 2 * attention_mask
        return self.windows([*logits, v], with_shift(bias, mask, len(hidden_states)), output_attentions)


class SwappedMaskFormerSwinSelfAttention(_Windows):
    """The windows of MaskFormer's Swin, with a table of relative positions and the mask of a shift."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, output_attentions: bool | None = False
    ) -> Output:
        bias = rearrange(self.relative_position_bias_table[self.relative_position_index], "n m h -> 1 h n m")
        bias = with_shift(bias, attention_mask, len(hidden_states))
        return self.windows(self.roles(hidden_states), bias, output_attentions)


class SwappedSamVisionAttention(SwappedModule):
    """The layer of SAM's encoder, `[b H W c] -> [b H W c]`; relative positions depend on queries, or else on keys."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_sam_heads(old), scale=old.scale)
        drops = original_class(old).__name__ == "SamVisionAttention"  # the other one drops nothing
        self.core.attn_drop = nn.Dropout(old.dropout if drops else 0.0).train(old.training)
        if not self.queries:
            self.kv = without_rows(old.qkv, old.qkv.out_features // 3)
            del self.qkv

    def forward(self, hidden_states: Tensor, output_attentions: bool | None = None) -> tuple[Tensor, Tensor | None]:
        size = height, width = hidden_states.shape[1], hidden_states.shape[2]
        projected = (self.qkv if self.queries else self.kv)(hidden_states.flatten(1, 2))
        roles = split_heads(projected, self.core.heads, 3 if self.queries else 2)
        bias, weights = None, None
        if self.use_rel_pos:
            first = roles[0].flatten(0, 1)
            bias = self.get_decomposed_rel_pos(first, self.rel_pos_h, self.rel_pos_w, size, size)
            bias = bias.reshape(len(hidden_states), self.core.heads, height * width, height * width)
        if output_attentions or wants_weights({}):
            mixed, weights = mix_and_weights(self, *roles, bias=bias)
        else:
            mixed = self.mix(*roles, bias=bias)
        weights = None if weights is None else weights.flatten(0, 1)  # as the original's
        return self.proj(rearrange(mixed, "b h (H W) d -> b H W (h d)", H=height)), weights


def _window_heads(layer: Any) -> tuple[int, int]:
    return layer.num_attention_heads, layer.attention_head_size


def _sam_heads(layer: Any) -> tuple[int, int]:
    return layer.num_attention_heads, layer.qkv.out_features // 3 // layer.num_attention_heads


def _table(_layer: Any) -> str:
    return "a table of relative positions, and the mask of a shift,"


def _network(_layer: Any) -> str:
    return "a bias that a network computes from relative positions"


def _relative(layer: Any) -> str | None:
    return "a bias of relative positions that depends on the queries" if layer.use_rel_pos else None


ADAPTERS = (
    Adapter(
        "SwinV2 (transformers)",
        ("transformers.models.swinv2.modeling_swinv2.Swinv2SelfAttention",),
        _window_heads,
        SwappedSwinv2SelfAttention,
        bias=_network,
    ),
    Adapter(
        "MaskFormer's Swin (transformers)",
        ("transformers.models.maskformer.modeling_maskformer_swin.MaskFormerSwinSelfAttention",),
        _window_heads,
        SwappedMaskFormerSwinSelfAttention,
        bias=_table,
    ),
    Adapter(
        "SAM's encoder (transformers)",
        (
            "transformers.models.sam.modeling_sam.SamVisionAttention",
            "transformers.models.sam.modeling_sam.SamVisionSdpaAttention",
        ),
        _sam_heads,
        SwappedSamVisionAttention,
        bias=_relative,
        queries=partial(refuse_slicing, name="qkv"),
        renames={"qkv": "kv"},
    ),
)
