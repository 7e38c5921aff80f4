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

from fewpairs.attention import Attention, ConvProjection, MultiHead, Variant, variants_per_stage
from fewpairs.models.encoders.staged import StagedClassifier, check_maps
from fewpairs.models.encoders.vit import init_linear
from fewpairs.types import Grid


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
        self.apply(init_linear)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        x, grid = self.embed(image)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
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


class CvT(StagedClassifier):
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
        built, info = [], []
        channels, reduction = in_chans, 1
        variants = variants_per_stage(attention, [stage.depth for stage in stages])
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            drops = torch.linspace(0, drop_path_rate if last else 0.0, stage.depth, device="cpu").tolist()
            blocks = [
                CvTBlock(stage, variant, stride_kv=stride_kv, mlp_ratio=mlp_ratio, drop_path=drop)
                for variant, drop in zip(variants[index], drops, strict=True)
            ]
            built.append(CvTStageBlocks(ConvEmbed(channels, stage), blocks, class_token=class_token and last))
            channels, reduction = stage.width, reduction * stage.stride
            info.append({"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"})
        super().__init__(
            built,
            nn.LayerNorm(channels),
            info,
            in_chans=in_chans,
            num_classes=num_classes,
            drop_rate=drop_rate,
            pools=("token", "avg") if class_token else ("avg",),
            global_pool=global_pool,
        )
        self.has_class_token = class_token

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
        check_maps(output_fmt)
        wanted = self.stage_indices(indices)
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

    def forward_features(self, x: Tensor) -> Tensor:
        """`[b c H W] -> [b n c]`: the last stage's normalised tokens, the class token first if there is one."""
        return super().forward_features(x)

    def pool(self, x: Tensor) -> Tensor:
        """`[b n c] -> [b c]`: the class token, or the mean of the others."""
        if self.global_pool == "token":
            return x[:, 0]
        return x[:, int(self.has_class_token) :].mean(dim=1) if self.global_pool == "avg" else x

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
