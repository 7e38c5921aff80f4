"""MONAI's attention: ViT, UNETR, ViTAutoEnc and diffusion models (`SABlock`), SwinUNETR and its SwinTransformer.

Nothing here imports MONAI: the layers are recognised by name.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from fewpairs.attention import Variant, has_pairs
from fewpairs.errors import InputError
from fewpairs.swap.adapter import Adapter, Unsupported
from fewpairs.swap.adapters.joint import JointAttention, joint_adapter, split_heads
from fewpairs.swap.adapters.windowed import with_shift
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows


class _Block(SwappedModule):
    """What `SABlock` and `CrossAttentionBlock` share: masks, relative positions, maps that are kept, the output."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_heads(old), scale=old.scale)
        self.core.attn_drop = old.drop_weights

    def apart(self, x: Tensor) -> Tensor:
        """Split the heads, `[b n (h d)] -> [b h n d]`."""
        return rearrange(x, "b n (h d) -> b h n d", h=self.core.heads)

    def attend(self, x: Tensor, roles: tuple[Tensor, ...], mask: Tensor | None = None) -> Tensor:
        """Mix the heads and project them, `[b n c]`; `mask` `[b m]` or `[b h n m]` is True for keys to attend to."""
        *logits, v = roles
        if self.attention_dtype is not None:
            logits = [role.to(self.attention_dtype) for role in logits]
        n, m = logits[0].shape[2], v.shape[2]
        if self.causal:
            mask = self.causal_mask[:, :, :n, :m] != 0
        bias = mask = None if mask is None else mask.expand(-1, -1, n, -1) if mask.dim() == 4 else mask
        if self.rel_positional_embedding is not None:
            zeros = logits[0].new_zeros(*logits[0].shape[:3], m)
            bias = self.rel_positional_embedding(x, zeros, logits[0])
            bias = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        if self.save_attn:
            weights = self.core.weights(*(role * self.role_scale for role in logits), bias=bias)
            self.att_mat = weights.detach()
            mixed = self.core.attn_drop(weights).to(v.dtype) @ v
        else:
            mixed = self.mix(*logits, v.to(logits[0].dtype), bias=bias).to(v.dtype)
        tokens: Tensor = self.drop_output(self.out_proj(rearrange(mixed, "b h n d -> b n (h d)")))
        return tokens


class SwappedSABlock(_Block):
    """Self-attention, `[b n c] -> [b n c]`; without queries `qkv` becomes `kv`, or `to_q` goes."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries and old.use_combined_linear:
            self.kv = without_rows(old.qkv, old.num_heads * old.dim_head)
            del self.qkv
        elif not self.queries:
            del self.to_q

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        if self.causal and attn_mask is not None:
            raise InputError("attn_mask: this layer was built with causal=True, which supports no attention masks")
        if attn_mask is not None and not self.use_flash_attention:
            attn_mask = (attn_mask != 0)[:, None, None, :]
        if self.use_combined_linear:
            roles = split_heads(self.qkv(x) if self.queries else self.kv(x), self.core.heads, 3 if self.queries else 2)
        else:
            maps = (self.to_q, self.to_k, self.to_v) if self.queries else (self.to_k, self.to_v)
            roles = tuple(self.apart(each(x)) for each in maps)
        return self.attend(x, roles, attn_mask)


class SwappedCrossAttentionBlock(_Block):
    """Attention from tokens `[b n c]` to a context `[b m e]`, or to themselves: `-> [b n c]`."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        tokens = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.attend(x, tuple(map(self.apart, tokens)))


class SwappedMonaiWindowAttention(JointAttention):
    """Windows of an image or of a volume, `[(b w) n c] -> [(b w) n c]`; a smaller window has a part of the table."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n = x.shape[1]
        table = self.relative_position_bias_table[self.relative_position_index[:n, :n].reshape(-1)]
        bias = with_shift(rearrange(table, "(n m) h -> 1 h n m", n=n), mask, len(x))
        return self.out(self.mix(*self.split(self.joint(x)), bias=bias))


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.dim_head if hasattr(layer, "dim_head") else layer.head_dim


def _bias(layer: Any) -> str | None:
    if layer.rel_positional_embedding is not None:
        return "a bias of relative positions that depends on the queries"
    return "a causal mask" if layer.causal else None


def _lacks(layer: Any, variant: Variant) -> str | None:
    if layer.use_flash_attention and layer.dropout_rate:
        return "with use_flash_attention=True and a dropout_rate MONAI drops attention weights in evaluation too"
    if layer.save_attn and not has_pairs(variant):
        return f"it keeps its attention maps (save_attn=True), and {variant} has none"
    return None


def _plain(layer: Any) -> str | None:
    return refuse_slicing(layer, "qkv") if layer.use_combined_linear else None


def _context(_layer: Any) -> str:
    return "keys are those of a context, not of the queries"


def _table(_layer: Any) -> str:
    return "a table of relative positions"


ADAPTERS = (
    Adapter(
        "ViT and UNETR (MONAI)",
        ("monai.networks.blocks.selfattention.SABlock",),
        _heads,
        SwappedSABlock,
        bias=_bias,
        queries=_plain,
        lacks=_lacks,
        renames={"qkv": "kv"},
    ),
    Adapter(
        "Cross-attention (MONAI)",
        ("monai.networks.blocks.crossattention.CrossAttentionBlock",),
        _heads,
        SwappedCrossAttentionBlock,
        bias=_bias,
        strided=_context,
        lacks=_lacks,
    ),
    joint_adapter(
        "SwinUNETR (MONAI)",
        ("monai.networks.nets.swin_unetr.WindowAttention",),
        SwappedMonaiWindowAttention,
        bias=_table,
    ),
    Unsupported(
        "Attention U-Net (MONAI)",
        ("monai.networks.nets.attentionunet.AttentionBlock",),
        "it is a gate of a skip connection: there are no queries and keys",
    ),
)
