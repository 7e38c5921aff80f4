"""CvT, the convolutional vision transformer (Wu et al., arXiv 2103.15808), with attention as an argument.

Three stages, each a convolutional embedding with layer norm and pre-norm blocks whose projections are convolutions; no
table of positions. As the authors' code has it: the logits are scaled by the whole width (say `Softmax("width")`), the
feed-forward part uses the sigmoid form of GELU, stochastic depth acts in the last stage only, and the class token,
which the convolutions leave out, joins in the last stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp, trunc_normal_
from timm.layers.activations import QuickGELU
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latchkey.attention import Attention, ConvProjection, MultiHead, Variant, spread
from latchkey.errors import InputError
from latchkey.models.encoders.vit import draw_linear
from latchkey.types import Grid


@dataclass(frozen=True)
class CvTStage:
    """One stage: sizes of its transformer, then kernel, stride and padding of its convolutional embedding."""

    width: int
    heads: int
    depth: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1


CVT_13 = (CvTStage(64, 1, 1, 7, 4, 2), CvTStage(192, 3, 2), CvTStage(384, 6, 10))
CVT_21 = (CvTStage(64, 1, 1, 7, 4, 2), CvTStage(192, 3, 4), CvTStage(384, 6, 16))


class CvTBlock(nn.Module):
    """Pre-norm block, `[b n c], Grid -> [b n c]`: attention with convolutional projections, then feed-forward."""

    def __init__(self, stage: CvTStage, attention: Variant, *, stride_kv: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        width = stage.width
        self.norm1 = nn.LayerNorm(width)
        self.attn = MultiHead(width, stage.heads, attention, project=ConvProjection.with_(stride_kv=stride_kv))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=QuickGELU)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ConvEmbed(nn.Module):
    """Convolution, then layer norm over the channels: `[b c H W] -> [b n width]` and the grid of the n tokens."""

    def __init__(self, in_channels: int, stage: CvTStage) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, stage.width, stage.kernel, stage.stride, stage.padding)
        self.norm = nn.LayerNorm(stage.width)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        x = self.proj(image)
        return self.norm(rearrange(x, "b c h w -> b (h w) c")), Grid(x.shape[2], x.shape[3])


class CvTStageBlocks(nn.Module):
    """One stage, `[b c H W] -> [b n width]` and the grid of its tokens; a class token comes first if there is one."""

    def __init__(self, embed: ConvEmbed, blocks: Sequence[CvTBlock], *, class_token: bool = False) -> None:
        super().__init__()
        self.embed = embed
        width = embed.proj.out_channels
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.blocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False
        self.apply(draw_linear)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        x, grid = self.embed(image)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
            grid = Grid(grid.h, grid.w, prefix=1)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, grid, use_reentrant=False)
            else:
                x = block(x, grid)
        return x, grid


def as_map(tokens: Tensor, grid: Grid) -> Tensor:
    """`[b n c] -> [b c h w]`, prefix tokens left out."""
    return rearrange(tokens[:, grid.prefix :], "b (h w) c -> b c h w", h=grid.h)


class CvT(nn.Module):
    """The classifier, with timm's interface: `[b in_chans H W] -> [b num_classes]`.

    Args:
        stages: see `CVT_13`, `CVT_21`.
        attention: one variant for all blocks, or one a stage, or one a block.
        stride_kv: stride of keys and values; the authors' is 2. Variants whose keys are queries need 1.
        class_token: classify from a class token in the last stage, else from the mean over the last map.
        in_chans, num_classes, drop_rate, drop_path_rate, global_pool: as in timm; `global_pool` is "token" or "avg".

    Raises:
        InputError: `attention` needs `stride_kv=1`, or names too few or too many variants; `global_pool="token"`
            without a class token.
    """

    def __init__(
        self,
        stages: Sequence[CvTStage],
        attention: Attention,
        *,
        stride_kv: int = 2,
        class_token: bool = True,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        mlp_ratio: float = 4.0,
        global_pool: str | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = self.embed_dim = stages[-1].width
        self.has_class_token = class_token
        self.global_pool = self._checked_pool(global_pool or ("token" if class_token else "avg"))
        self.stages = nn.ModuleList()
        self.feature_info: list[dict[str, Any]] = []
        channels, reduction = in_chans, 1
        variants = spread(attention, [stage.depth for stage in stages])
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            drops = torch.linspace(0, drop_path_rate if last else 0.0, stage.depth, device="cpu").tolist()
            blocks = [
                CvTBlock(stage, variant, stride_kv=stride_kv, mlp_ratio=mlp_ratio, drop_path=drop)
                for variant, drop in zip(variants[index], drops, strict=True)
            ]
            self.stages.append(CvTStageBlocks(ConvEmbed(channels, stage), blocks, class_token=class_token and last))
            channels, reduction = stage.width, reduction * stage.stride
            self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"})
        self.norm: nn.Module = nn.LayerNorm(channels)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._new_head(num_classes)

    def _checked_pool(self, pool: str) -> str:
        allowed = ("token", "avg") if self.has_class_token else ("avg",)
        if pool not in (*allowed, ""):
            raise InputError(f"global_pool={pool!r} is not possible here; allowed: {', '.join(map(repr, allowed))}")
        return pool

    def _new_head(self, classes: int) -> nn.Module:
        if classes < 1:
            return nn.Identity()
        head = nn.Linear(self.num_features, classes)
        draw_linear(head)
        return head

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps `[b c h w]` of chosen stages (all for None, the last ones for an int), and the final tokens before them.

        `norm` normalises the last stage's map; `stop_early` runs no stage after the last one wanted.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt={output_fmt!r} is not offered; the maps are 'NCHW'")
        wanted = self._stage_indices(indices)
        maps, tokens, ran = [], x, 0
        for index, stage in enumerate(self.stages):
            if stop_early and index > max(wanted):
                break
            tokens, grid = stage(x)
            ran = index + 1
            x = as_map(tokens, grid)
            if index in wanted:
                maps.append(as_map(self.norm(tokens), grid) if norm and ran == len(self.stages) else x)
        if intermediates_only:
            return maps
        return (self.norm(tokens) if ran == len(self.stages) else tokens), maps

    def _stage_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.stages)
        if indices is None or isinstance(indices, int):
            first = 0 if indices is None else count - indices
            chosen = list(range(max(first, 0), count))
        else:
            chosen = [i % count if -count <= i < count else i for i in indices]
        if not chosen or any(not 0 <= i < count for i in chosen):
            raise InputError(f"indices={indices!r} must name stages from 0 to {count - 1}")
        return chosen

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Take off the stages after the last index; norm and head too where asked, or where they no longer fit."""
        wanted = self._stage_indices(indices)
        shorter = max(wanted) < len(self.stages) - 1
        self.stages = self.stages[: max(wanted) + 1]
        if prune_norm or shorter:
            self.norm = nn.Identity()
        if prune_head or shorter:
            self.reset_classifier(0)
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """`[b c H W] -> [b n c]`: the last stage's normalised tokens, the class token first if there is one."""
        return self.forward_intermediates(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """`[b n c] -> [b num_classes]`, or the pooled features before the last layer."""
        if self.global_pool == "token":
            x = x[:, 0]
        elif self.global_pool == "avg":
            x = x[:, int(self.has_class_token) :].mean(dim=1)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new, untrained last layer; `num_classes=0` leaves the pooled features."""
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.num_classes = num_classes
        self.head = self._new_head(num_classes).to(next(self.parameters()).device)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass rather than keep what they need."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]  # a plain attribute of CvTStageBlocks

    def no_weight_decay(self) -> set[str]:
        """The class token, if there is one."""
        return {name for name, _ in self.named_parameters() if name.endswith("cls_token")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names from input to output, as timm's layer-wise decay reads them."""
        if coarse:
            return {"stem": r"^stages\.0\.embed", "blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))]}
        return {
            "stem": r"^stages\.0\.embed",
            "blocks": [
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^stages\.(\d+)\.(?:embed|cls_token)", (0,)),
                (r"^norm", (99999,)),
            ],
        }
