"""open_clip's own attention, as in its custom blocks, and its pooling by learned queries; neither is imported here.

Its ordinary blocks consist of `nn.MultiheadAttention`, and its timm towers of timm's layers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import split_heads
from fewpairs.swap.adapters.torch_multihead import SwappedMultihead
from fewpairs.swap.adapters.windowed import cosines
from fewpairs.swap.condition import unplain_parameters
from fewpairs.swap.module import SwappedModule, without_first


class SwappedClipAttention(SwappedModule):
    """Maps `[b n c] -> [b n c]`: queries and keys may be normed or of one length, the heads' output scaled and normed.

    Without queries the last two thirds of `in_proj_weight` and `in_proj_bias` become `kv_proj_weight` and
    `kv_proj_bias`.
    """

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_heads(old), scale=old.scale)
        if not self.queries:
            for name in ("weight", "bias"):
                whole = self._parameters.pop(f"in_proj_{name}")
                kept = None if whole is None else without_first(whole, old.num_heads * old.head_dim)
                self.register_parameter(f"kv_proj_{name}", kept)
            del self.ln_q

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        weight, bias = (getattr(self, f"{'in' if self.queries else 'kv'}_proj_{name}") for name in ("weight", "bias"))
        *logits, v = split_heads(F.linear(x, weight, bias), self.core.heads, 3 if self.queries else 2)
        if self.logit_scale is not None:
            logits = cosines(self, logits, self.logit_scale, self.logit_scale_max)
        else:
            norms = (self.ln_q, self.ln_k) if self.queries else (self.ln_k,)
            logits = [norm(role) for norm, role in zip(norms, logits, strict=True)]
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(len(x), self.core.heads, *attn_mask.shape[-2:])
        if attn_mask is not None:
            attn_mask = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask.to(v.dtype)
        mixed = self.mix(*logits, v, bias=attn_mask)
        mixed = mixed if self.head_scale is None else mixed * self.head_scale
        tokens: Tensor = self.out_drop(self.out_proj(self.ln_inner(rearrange(mixed, "b h n d -> b n (h d)"))))
        return tokens


class SwappedAttentionalPooler(SwappedModule):
    """Pooling by learned queries, `[b n c] -> [b m d]`, whose `nn.MultiheadAttention` is replaced."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, *_pooler_heads(old))
        self.attn = SwappedMultihead(old.attn, variant)
        self.core = self.attn.core


def _heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.head_dim


def _pooler_heads(layer: Any) -> tuple[int, int]:
    return layer.attn.num_heads, layer.attn.head_dim


def _learned(_layer: Any) -> str:
    return "its queries are learned, and are no tokens of the image"


ADAPTERS = (
    Adapter(
        "CLIP's custom blocks (open_clip)",
        ("open_clip.transformer.Attention",),
        _heads,
        SwappedClipAttention,
        queries=unplain_parameters,
        renames={"in_proj_weight": "kv_proj_weight", "in_proj_bias": "kv_proj_bias"},
    ),
    Adapter(
        "Pooling by learned queries (open_clip)",
        ("open_clip.transformer.AttentionalPooler",),
        _pooler_heads,
        SwappedAttentionalPooler,
        strided=_learned,
    ),
)
