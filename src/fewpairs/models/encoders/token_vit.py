"""Base class of T2T-ViT and So-ViT: a class token, sinusoid positions, pre-norm blocks, and timm's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp, resample_abs_pos_embed, trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewpairs.attention import LinearProjection, MultiHead, Variant
from fewpairs.attention.kv import index_sinusoid
from fewpairs.errors import InputError
from fewpairs.models.encoders.vit import init_linear
from fewpairs.models.traced_size import hold_traced_size
from fewpairs.types import Grid, Size


@dataclass(frozen=True)
class Trunk:
    """Sizes of the blocks after the tokeniser."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float


class Tokenizer(nn.Module, ABC):
    """`[b c H W] -> [b n width]` and the grid of the n tokens, for an image of any size."""

    stride: int
    """Stride of the tokens in pixels."""

    @abstractmethod
    def grid(self, size: Size) -> Grid:
        """The tokens of an image of (h, w) pixels."""

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Tokens and their grid."""


class TokenBlock(nn.Module):
    """Pre-norm block, `[b n c], Grid -> [b n c]`: attention without bias on its first map, then feed-forward."""

    def __init__(self, trunk: Trunk, attention: Variant, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(trunk.width)
        self.attn = MultiHead(trunk.width, trunk.heads, attention, project=partial(LinearProjection, bias=False))
        self.norm2 = nn.LayerNorm(trunk.width)
        self.mlp = Mlp(trunk.width, int(trunk.width * trunk.mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class TokenViT(nn.Module, ABC):
    """`[b in_chans H W] -> [b num_classes]`: tokeniser, class token, fixed positions, blocks, norm, pooling, one map.

    The table of positions is the sinusoid of the tokens' number (arXiv 1706.03762, section 3.5), made for `img_size`
    and resampled for images of another size; it is no parameter and no part of the state.

    Args:
        patch_embed: the tokeniser.
        attention: one variant per block.
        pools: allowed values of `global_pool`; the first is the published one.
        img_size: (h, w) in pixels that the positions are made for.
        drop_rate: share of the features dropped before the last map; `drop_path_rate` as in timm.
    """

    def __init__(
        self,
        patch_embed: Tokenizer,
        trunk: Trunk,
        attention: Sequence[Variant],
        *,
        pools: Sequence[str],
        img_size: Size,
        num_classes: int,
        drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.patch_embed, self.num_classes, self.num_prefix_tokens = patch_embed, num_classes, 1
        hold_traced_size(patch_embed)
        self.num_features = self.embed_dim = trunk.width
        self.head_hidden_size = self.head_width()
        self.pools, self.global_pool = tuple(pools), pools[0]
        grid = patch_embed.grid(img_size)
        self._grid = Grid(grid.h, grid.w, prefix=1)
        table = index_sinusoid(self._grid.tokens, trunk.width, trunk.width, torch.get_default_device())
        self.register_buffer("pos_embed", table[None], persistent=False)
        self.cls_token = nn.Parameter(torch.empty(1, 1, trunk.width))
        drops = torch.linspace(0, drop_path_rate, trunk.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList([TokenBlock(trunk, a, drop) for a, drop in zip(attention, drops, strict=True)])
        self.norm: nn.Module = nn.LayerNorm(trunk.width)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._new_head(num_classes)
        self.grad_checkpointing = False
        self.feature_info = [
            {"num_chs": trunk.width, "reduction": patch_embed.stride, "module": f"blocks.{i}"}
            for i in range(trunk.depth)
        ]
        self.apply(init_linear)
        trunc_normal_(self.cls_token, std=0.02)

    @abstractmethod
    def head_width(self) -> int:
        """Length of the features that `pool` gives."""

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """`[b n c]`, normalised, the class token first -> `[b head_width]`."""

    def _new_head(self, classes: int) -> nn.Module:
        return nn.Linear(self.head_hidden_size, classes) if classes > 0 else nn.Identity()

    def _embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """The tokens before the first block, the class token first, with their positions."""
        x, grid = self.patch_embed(image)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        table = resample_abs_pos_embed(self.pos_embed, [grid.h, grid.w], [self._grid.h, self._grid.w])
        return x + table.to(x.dtype), Grid(grid.h, grid.w, prefix=1)

    def _run(self, block: nn.Module, x: Tensor, grid: Grid) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(block, x, grid, use_reentrant=False)
        return block(x, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        """`[b c H W] -> [b n c]`: the normalised tokens, the class token first."""
        x, grid = self._embed(x)
        for block in self.blocks:
            x = self._run(block, x, grid)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """`[b n c] -> [b num_classes]`, or the pooled features before the last map."""
        x = self.head_drop(self.pool(x))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps `[b c h w]` of chosen blocks (all for None, the last ones for an int), and the final tokens before them.

        `norm` normalises the maps too; `stop_early` runs no block after the last one wanted; `output_fmt="NLC"` gives
        tokens `[b n c]` instead of maps, the class token left out either way.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise InputError(f"output_fmt={output_fmt!r} is not offered; allowed: 'NCHW', 'NLC'")
        wanted = self._block_indices(indices)
        x, grid = self._embed(x)
        found = []
        for index, block in enumerate(self.blocks[: max(wanted) + 1] if stop_early else self.blocks):
            x = self._run(block, x, grid)
            if index in wanted:
                tokens = (self.norm(x) if norm else x)[:, 1:]
                found.append(rearrange(tokens, "b (h w) c -> b c h w", h=grid.h) if output_fmt == "NCHW" else tokens)
        return found if intermediates_only else (self.norm(x), found)

    def _block_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.blocks)
        if indices is None or isinstance(indices, int):
            chosen = list(range(0 if indices is None else max(count - indices, 0), count))
        else:
            chosen = [i % count if -count <= i < count else i for i in indices]
        if not chosen or any(not 0 <= i < count for i in chosen):
            raise InputError(f"indices={indices!r} must name blocks from 0 to {count - 1}")
        return chosen

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the blocks after the last index; norm and head too if requested."""
        wanted = self._block_indices(indices)
        self.blocks = self.blocks[: max(wanted) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new, untrained one; `num_classes=0` leaves the pooled features."""
        if global_pool is not None and global_pool not in self.pools:
            allowed = ", ".join(map(repr, self.pools))
            raise InputError(f"global_pool={global_pool!r} is not possible here; allowed: {allowed}")
        self.num_classes, self.global_pool = num_classes, self.global_pool if global_pool is None else global_pool
        self.head = self._new_head(num_classes).apply(init_linear).to(self.cls_token.device)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass to save memory."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """The class token."""
        return {"cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names from input to output, as timm's layer-wise decay reads them."""
        return {"stem": r"^(?:cls_token|patch_embed)", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}
