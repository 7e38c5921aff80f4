"""Attention within windows: timm's Swin, Swin V2, GCViT, DaViT and Twins' local layers; also BEiT."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.layers import use_fused_attn
from timm.models.beit import Attention as BeitAttention
from timm.models.davit import WindowAttention as DavitWindowAttention
from timm.models.gcvit import WindowAttentionGlobal
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.swin_transformer_v2_cr import WindowMultiHeadAttention
from timm.models.twins import LocallyGroupedAttn
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapters.joint import JointAttention, experimental_fused, joint_adapter, split_heads
from fewpairs.swap.adapters.rope import biased_joint
from fewpairs.swap.module import SwappedModule, without_rows


class SwappedWindowAttention(JointAttention, WindowAttention):
    """Swin's windows, `[(b w) n c] -> [(b w) n c]`; relative positions and shift mask are added to the scores."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, fused=experimental_fused(old))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        bias = with_shift(self._get_rel_pos_bias(), mask, len(x))
        return self.out(self.mix(*self.split(self.joint(x)), bias=bias))


class SwappedWindowAttentionV2(JointAttention, WindowAttentionV2):
    """Swin V2's windows, `[(b w) n c] -> [(b w) n c]`: logits are cosines times a learned factor per head."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries:
            self.q_bias = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        *logits, v = self.split(biased_joint(self, x))
        logits = cosines(self, logits, self.logit_scale)
        bias = with_shift(self.relative_positions(), mask, len(x))
        return self.out(self.mix(*logits, v, bias=bias))

    def relative_positions(self) -> Tensor:
        """Return the bias `[1 h n n]` that a small network computes from log-spaced relative positions."""
        table = rearrange(self.cpb_mlp(self.relative_coords_table), "1 y x h -> (y x) h")
        return 16 * torch.sigmoid(rearrange(table[self.relative_position_index], "n m h -> 1 h n m"))


class SwappedWindowMultiHeadAttention(JointAttention, WindowMultiHeadAttention):
    """Windows of Swin V2 as first written in timm, `[(b w) n c] -> [(b w) n c]`; a network gives the bias as in V2."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        *logits, v = self.split(self.joint(x))
        logits = cosines(self, logits, self.logit_scale.reshape(-1, 1, 1))
        bias = with_shift(self._relative_positional_encodings(), mask, len(x))
        return self.out(self.mix(*logits, v, bias=bias))


class SwappedDavitWindowAttention(JointAttention, DavitWindowAttention):
    """DaViT's windows, `[(b w) n c] -> [(b w) n c]`, without relative positions."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(*self.split(self.joint(x)))
        projected: Tensor = self.proj(rearrange(mixed, "b h n d -> b n (h d)"))
        return projected


class SwappedWindowAttentionGlobal(SwappedModule, WindowAttentionGlobal):
    """GCViT's windows, `[(b w) n c] -> [(b w) n c]`; in every other layer all windows have the queries of the image."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant, old.num_heads, old.head_dim, scale=old.scale, fused=bool(use_fused_attn()))
        if not self.queries:
            self.kv = without_rows(old.qkv, old.num_heads * old.head_dim)
            del self.qkv

    def forward(self, x: Tensor, q_global: Tensor | None = None) -> Tensor:
        projected = self.qkv(x) if self.queries else self.kv(x)
        roles = split_heads(projected, self.core.heads, projected.shape[-1] // (self.core.heads * self.core.dim_head))
        if self.use_global and q_global is not None:
            shared = repeat(q_global, "b ... -> (b w) ...", w=len(x) // len(q_global))
            roles = rearrange(shared.flatten(1, -2), "b n (h d) -> b h n d", h=self.core.heads), *roles
        mixed = rearrange(self.mix(*roles, bias=self.rel_pos.get_bias()), "b h n d -> b n (h d)")
        tokens: Tensor = self.proj_drop(self.proj(mixed))
        return tokens


def cosines(
    layer: SwappedModule, logits: list[Tensor], log_factor: Tensor, largest: float = math.log(100)
) -> list[Tensor]:
    """Normalise queries and keys, so that the core's logits are cosines times a learned factor per head `[h 1 1]`.

    `log_factor` is the logarithm of the factor, of which more than `largest` does not count.
    """
    factor = log_factor.clamp(max=largest).exp() / (layer.core.scale * layer.role_scale**2)
    return [(F.normalize(role, dim=-1) * factor.sqrt()).type_as(role) for role in logits]


def with_shift(bias: Tensor, mask: Tensor | None, windows: int) -> Tensor:
    """Add the mask of shifted windows `[w n n]` to a bias `[1 h n n]`, for a batch: `[(b w) h n n]`."""
    if mask is None:
        return bias
    return bias + repeat(mask, "w n m -> (b w) 1 n m", b=windows // len(mask))


class SwappedLocallyGroupedAttn(JointAttention, LocallyGroupedAttn):
    """Twins' windows, `[b n c] -> [b n c]`; the padding of the last window counts as keys."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        (height, width), side = size, self.ws
        image = rearrange(x, "b (H W) c -> b H W c", H=height)
        image = F.pad(image, (0, 0, 0, -width % side, 0, -height % side))
        down = image.shape[1] // side
        windows = rearrange(image, "b (down y) (across x) c -> (b down across) (y x) c", y=side, x=side)
        mixed = rearrange(self.mix(*self.split(self.joint(windows))), "w h n d -> w n (h d)")
        pattern = "(b down across) (y x) c -> b (down y) (across x) c"
        image = rearrange(mixed, pattern, b=len(x), down=down, y=side)[:, :height, :width]
        projected: Tensor = self.proj_drop(self.proj(rearrange(image, "b H W c -> b (H W) c")))
        return projected


class SwappedBeitAttention(JointAttention, BeitAttention):
    """BEiT's layer, `[b n c] -> [b n c]`; own and shared relative positions are added to the scores."""

    def __init__(self, old: Any, variant: Variant) -> None:
        super().__init__(old, variant)
        if not self.queries:
            self.q_bias = None

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        bias = shared_rel_pos_bias
        if self.relative_position_bias_table is not None:
            bias = self._get_rel_pos_bias() if bias is None else self._get_rel_pos_bias() + bias
        return self.out(self.mix(*self.split(biased_joint(self, x)), bias=bias))


def _gcvit_heads(layer: Any) -> tuple[int, int]:
    return layer.num_heads, layer.head_dim


def _image_queries(layer: Any) -> str | None:
    return "its queries are those of the image, the same in all windows" if layer.use_global else None


def _table(_layer: Any) -> str:
    return "a table of relative positions"


def _network(_layer: Any) -> str:
    return "a bias that a network computes from relative positions"


def _beit_table(layer: Any) -> str:
    shared = layer.relative_position_bias_table is None
    return "relative positions that all layers share" if shared else "a table of relative positions"


ADAPTERS = (
    joint_adapter(
        "Swin (timm)", ("timm.models.swin_transformer.WindowAttention",), SwappedWindowAttention, bias=_table
    ),
    joint_adapter(
        "Swin V2 (timm)", ("timm.models.swin_transformer_v2.WindowAttention",), SwappedWindowAttentionV2, bias=_network
    ),
    joint_adapter(
        "Swin V2 CR (timm)",
        ("timm.models.swin_transformer_v2_cr.WindowMultiHeadAttention",),
        SwappedWindowMultiHeadAttention,
        bias=_network,
    ),
    joint_adapter("DaViT, windows (timm)", ("timm.models.davit.WindowAttention",), SwappedDavitWindowAttention),
    joint_adapter(
        "GCViT (timm)",
        ("timm.models.gcvit.WindowAttentionGlobal",),
        SwappedWindowAttentionGlobal,
        bias=_table,
        strided=_image_queries,
        heads=_gcvit_heads,
    ),
    joint_adapter("Twins, local (timm)", ("timm.models.twins.LocallyGroupedAttn",), SwappedLocallyGroupedAttn),
    joint_adapter("BEiT (timm)", ("timm.models.beit.Attention",), SwappedBeitAttention, bias=_beit_table),
)
