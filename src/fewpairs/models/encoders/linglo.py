"""LinGlo: a pyramid of convolution and attention blocks that alternate in every stage, with attention as an argument.

A **reconstruction** of Li and Liu, "Rethinking Query-Key Pairwise Interactions in Vision Transformers"
(arXiv 2207.00188), whose equations and layer tables could not be had: what is known, what is our choice and why is in
`docs/linglo.md`. Overlapping embeddings, norms and initial weights are PVTv2's (arXiv 2106.13797); there is no table of
positions, since the convolutions carry them, so any image size goes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from timm.layers import DropPath, Mlp, SqueezeExcite
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewpairs.attention import Attention, Core, LinearProjection, MultiHead, ReducedProjection, Variant
from fewpairs.attention.assign import variants_per_stage
from fewpairs.models.encoders.cvt import ConvEmbed, CvTStage, as_map
from fewpairs.models.encoders.linglo_layout import LinGloLayout, LinGloStage, MBConvShape
from fewpairs.models.encoders.staged import StagedClassifier, check_maps
from fewpairs.models.encoders.vit import init_linear
from fewpairs.types import Grid

_Norm = partial(nn.LayerNorm, eps=1e-6)


class MBConv(nn.Sequential):
    """Inverted residual without its shortcut, `[b c h w] -> [b c h w]`: GELU after the first two convolutions."""

    def __init__(self, width: int, shape: MBConvShape) -> None:
        inner, kernel = int(width * shape.expand), shape.kernel
        layers: list[nn.Module] = [nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.GELU()]
        layers += [nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=False)]
        layers += [nn.BatchNorm2d(inner), nn.GELU()]
        if shape.squeeze is not None:
            layers.append(SqueezeExcite(inner, rd_channels=max(1, int(inner * shape.squeeze))))
        layers += [nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)]
        super().__init__(*layers)


class LocalBlock(nn.Module):
    """`[b n c], Grid -> [b n c]`: convolution, then feed-forward, each added to what came in."""

    def __init__(self, width: int, shape: MBConvShape, *, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.conv = MBConv(width, shape)
        self.norm2 = _Norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        local = rearrange(self.conv(as_map(x, grid)), "b c h w -> b (h w) c")
        x = x + self.drop_path(local)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalBlock(nn.Module):
    """`[b n c], Grid -> [b n c]`: attention, then feed-forward, both on normalised tokens and added."""

    def __init__(self, stage: LinGloStage, attention: Variant, *, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        width, reduced = stage.width, stage.reduction > 1
        project = ReducedProjection.with_(ratio=stage.reduction) if reduced else LinearProjection
        self.norm1 = _Norm(width)
        self.attn = MultiHead(width, stage.heads, attention, project=project)
        self.norm2 = _Norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class LinGloBlocks(nn.Module):
    """One stage, `[b c H W] -> [b width h w]`: embedding, blocks, layer norm."""

    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self.embed, self.blocks, self.norm = embed, nn.ModuleList(blocks), _Norm(width)
        self.grad_checkpointing = False
        _init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        x, grid = self.embed(image)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, grid, use_reentrant=False)
            else:
                x = block(x, grid)
        return as_map(self.norm(x), grid)


class LinGlo(StagedClassifier):
    """The classifier, with timm's interface: `[b in_chans H W] -> [b num_classes]` for images of any size.

    A reconstruction, see the module.

    Args:
        layout: `LINGLO_B0` and so on, or another layout; see `arrange` for the named changes.
        attention: one variant for all attention blocks, one per stage, or one per attention block.
        in_chans, num_classes, drop_rate, drop_path_rate: as in timm; `drop_path_rate` rises from 0 over all blocks.
        global_pool: "avg", or "" for the last map.

    Raises:
        InputError: the attention cannot have the layout's reduced keys, or the number of variants is wrong.
    """

    def __init__(
        self,
        layout: LinGloLayout,
        attention: Attention,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str | None = None,
    ) -> None:
        stages, info = [], []
        channels, reduction = in_chans, 1
        variants = variants_per_stage(attention, [stage.attention_blocks for stage in layout.stages])
        count = sum(len(stage.blocks) for stage in layout.stages)
        drops = iter(torch.linspace(0, drop_path_rate, count, device="cpu").tolist())
        for index, stage in enumerate(layout.stages):
            its = iter(variants[index])
            ratio = layout.mlp_ratio
            blocks = [
                GlobalBlock(stage, next(its), mlp_ratio=ratio, drop_path=next(drops))
                if letter == "A"
                else LocalBlock(stage.width, layout.conv, mlp_ratio=ratio, drop_path=next(drops))
                for letter in stage.blocks
            ]
            shape = CvTStage(stage.width, stage.heads, len(blocks), stage.kernel, stage.stride, stage.kernel // 2)
            stages.append(LinGloBlocks(ConvEmbed(channels, shape), blocks, stage.width))
            channels, reduction = stage.width, reduction * stage.stride
            info.append({"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"})
        super().__init__(
            stages,
            nn.Identity(),
            info,
            in_chans=in_chans,
            num_classes=num_classes,
            drop_rate=drop_rate,
            pools=("avg",),
            global_pool=global_pool,
        )
        self.layout = layout

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps `[b c h w]` of chosen stages (all for None, the last ones for an int), and the final map before them.

        Every stage ends with its norm, so `norm` changes nothing; `stop_early` runs no stage after the last one wanted.
        """
        check_maps(output_fmt)
        wanted = self.stage_indices(indices)
        maps = []
        for index, stage in enumerate(self.stages):
            if stop_early and index > max(wanted):
                break
            x = stage(x)
            if index in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def forward_features(self, x: Tensor) -> Tensor:
        """`[b c H W] -> [b c h w]`: the last stage's normalised map."""
        return super().forward_features(x)

    def pool(self, x: Tensor) -> Tensor:
        """`[b c h w] -> [b c]`: the mean of all positions."""
        return x.mean(dim=(2, 3)) if self.global_pool == "avg" else x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map -> `[b num_classes]`, or the pooled features; without pooling, a map of either."""
        x = self.head_drop(self.pool(x))
        if pre_logits or self.num_classes < 1:
            return x
        return (
            self.head(x)
            if x.ndim == 2
            else rearrange(self.head(rearrange(x, "b c h w -> b h w c")), "b h w k -> b k h w")
        )

    def no_weight_decay(self) -> set[str]:
        """Nothing beyond norms and biases: there are no tables."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names from input to output, as timm's layer-wise decay reads them."""
        if coarse:
            return {"stem": r"^stages\.0\.embed", "blocks": [(r"^stages\.(\d+)", None)]}
        return {
            "stem": r"^stages\.0\.embed",
            "blocks": [
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^stages\.(\d+)\.embed", (0,)),
                (r"^stages\.(\d+)\.norm", (99999,)),
            ],
        }


def _init_weights(module: nn.Module) -> None:
    """Initialise weights as PVTv2 does, except those that a variant of attention initialises itself."""
    init_linear(module)
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for child in module.children():
        if not isinstance(child, Core):
            _init_weights(child)
