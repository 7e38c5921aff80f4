"""torchvision's Swin and SwinV2. Its ViT uses `torch.nn.MultiheadAttention`."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from fewpairs.attention import Variant
from fewpairs.swap.adapter import Adapter
from fewpairs.swap.adapters.joint import heads, split_heads
from fewpairs.swap.condition import refuse_slicing
from fewpairs.swap.module import SwappedModule, without_rows

UNRELATED = -100.0
"""The number that torchvision adds to the scores of tokens that share a window only because of the shift."""


class SwappedWindows(SwappedModule, ShiftedWindowAttention):
    """Window attention, `[b h w c] -> [b h w c]`; without queries the projection `qkv` becomes `kv`."""

    def __init__(self, old: ShiftedWindowAttention, variant: Variant, *, scale: float | None = None) -> None:
        super().__init__(old, variant, *heads(old), scale=scale)
        self.core.attn_drop = nn.Dropout(old.attention_dropout).train(old.training)
        if not self.queries:
            self.kv = without_rows(old.qkv, old.qkv.out_features // 3)
            del self.qkv

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (wh, ww) = x.shape[1:3], self.window_size
        x = F.pad(x, (0, 0, 0, -width % ww, 0, -height % wh))
        rows, columns = x.shape[1] // wh, x.shape[2] // ww
        # If one window covers the map, there is no shift.
        down, right = self.shift_size[0] if rows > 1 else 0, self.shift_size[1] if columns > 1 else 0
        shifted = torch.roll(x, (-down, -right), dims=(1, 2)) if down or right else x
        windows = rearrange(shifted, "b (y p) (x q) c -> (b y x) (p q) c", p=wh, q=ww)
        bias = self.get_relative_position_bias()
        if down or right:
            apart = self.unrelated(rows, columns, down, right, x)
            bias = repeat(bias + apart, "windows h n m -> (b windows) h n m", b=x.shape[0])
        mixed = rearrange(self.mix(*self.roles(windows), bias=bias), "b h n d -> b n (h d)")
        mixed = F.dropout(self.proj(mixed), self.dropout, self.training)
        x = rearrange(mixed, "(b y x) (p q) c -> b (y p) (x q) c", y=rows, x=columns, p=wh)
        x = torch.roll(x, (down, right), dims=(1, 2)) if down or right else x
        return x[:, :height, :width].contiguous()

    def roles(self, windows: Tensor) -> tuple[Tensor, ...]:
        """Return one `[windows h n d]` for each role."""
        project = self.qkv if self.queries else self.kv
        return split_heads(project(windows), self.core.heads, len(self.core.variant.roles))

    def unrelated(self, rows: int, columns: int, down: int, right: int, like: Tensor) -> Tensor:
        """Return the term to add to the scores in each window, `[windows 1 n n]`: 0 or `UNRELATED`.

        The shift moves the first rows of the map below the last; only the last row of windows contains both.
        """
        wh, ww = self.window_size

        def wrapped(windows: int, length: int, shift: int) -> Tensor:
            index = torch.arange(windows * length, device=like.device)
            return rearrange(index >= windows * length - shift, "(w p) -> w p", w=windows)

        below = rearrange(wrapped(rows, wh, down), "y p -> y 1 p 1")
        beside = rearrange(wrapped(columns, ww, right), "x q -> 1 x 1 q")
        part = rearrange(below * 2 + beside, "y x p q -> (y x) (p q)")
        apart = part[:, None, :, None] != part[:, None, None, :]
        return torch.zeros(apart.shape, dtype=like.dtype, device=like.device).masked_fill(apart, UNRELATED)


class SwappedWindowsV2(SwappedWindows, ShiftedWindowAttentionV2):
    """Window attention of SwinV2: scores are cosines times a learned factor per head; keys have no bias."""

    def __init__(self, old: ShiftedWindowAttentionV2, variant: Variant) -> None:
        super().__init__(old, variant, scale=1.0)

    def roles(self, windows: Tensor) -> tuple[Tensor, ...]:
        project = self.qkv if self.queries else self.kv
        bias = project.bias
        if bias is not None:
            *queries, _, values = bias.chunk(len(self.core.variant.roles))
            bias = torch.cat([*queries, torch.zeros_like(values), values])
        projected = F.linear(windows, project.weight, bias)
        *logits, v = split_heads(projected, self.core.heads, len(self.core.variant.roles))
        root = torch.exp(self.logit_scale.clamp(max=math.log(100.0)) / 2)
        return *(F.normalize(role, dim=-1) * root for role in logits), v


def _table(_layer: nn.Module) -> str:
    return "a table of relative positions, and the mask of a shift,"


ADAPTERS = (
    Adapter(
        family="Swin (torchvision)",
        matches=("torchvision.models.swin_transformer.ShiftedWindowAttention",),
        heads=heads,
        build=SwappedWindows,
        bias=_table,
        queries=partial(refuse_slicing, name="qkv"),
        renames={"qkv": "kv"},
    ),
    Adapter(
        family="SwinV2 (torchvision)",
        matches=("torchvision.models.swin_transformer.ShiftedWindowAttentionV2",),
        heads=heads,
        build=SwappedWindowsV2,
        bias=_table,
        queries=partial(refuse_slicing, name="qkv"),
        renames={"qkv": "kv"},
    ),
)
