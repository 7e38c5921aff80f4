"""Attention within windows: timm's Swin, Swin V2 and the local layers of Twins; also BEiT, with Swin's table."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.models.beit import Attention as BeitAttention
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.twins import LocallyGroupedAttn
from torch import Tensor

from fewpairs.attention import Variant
from fewpairs.swap.adapters.joint import JointAttention, experimental_fused, joint_adapter
from fewpairs.swap.adapters.rope import biased_joint


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
        factor = self.logit_scale.clamp(max=math.log(100)).exp() / self.core.scale
        logits = [(F.normalize(role, dim=-1) * factor.sqrt()).type_as(v) for role in logits]
        bias = with_shift(self.relative_positions(), mask, len(x))
        return self.out(self.mix(*logits, v, bias=bias))

    def relative_positions(self) -> Tensor:
        """Return the bias `[1 h n n]` that a small network computes from log-spaced relative positions."""
        table = rearrange(self.cpb_mlp(self.relative_coords_table), "1 y x h -> (y x) h")
        return 16 * torch.sigmoid(rearrange(table[self.relative_position_index], "n m h -> 1 h n m"))


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
    joint_adapter("Twins, local (timm)", ("timm.models.twins.LocallyGroupedAttn",), SwappedLocallyGroupedAttn),
    joint_adapter("BEiT (timm)", ("timm.models.beit.Attention",), SwappedBeitAttention, bias=_beit_table),
)
