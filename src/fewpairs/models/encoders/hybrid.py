"""TransUNet's encoder: a ResNet stem, and a vision transformer over the positions of its last map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import GroupNormAct, StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.encoders.base import Encoder
from fewpairs.models.encoders.vit import ViTEncoder


@dataclass(frozen=True)
class StemConfig:
    """Sizes of the ResNet stem: units and channels of each stage, channels before the first, groups of its norms."""

    units: tuple[int, ...]
    channels: tuple[int, ...]
    first: int = 64
    groups: int = 32

    @property
    def stride(self) -> int:
        """Stride of the last map in pixels."""
        return 2 << len(self.units)


R50 = StemConfig(units=(3, 4, 9), channels=(256, 512, 1024))
"""The first three stages of the R50 in "R50+ViT-B/16" (arXiv 2010.11929), which TransUNet takes over: stride 16."""


def build_stem(config: StemConfig, in_channels: int) -> ResNetV2:
    """Build a ResNet with weight-standardised convolutions and group norm, as timm's hybrid models have it; no head."""
    stem = ResNetV2(
        layers=config.units,
        channels=config.channels,
        in_chans=in_channels,
        num_classes=0,
        global_pool="",
        stem_chs=config.first,
        stem_type="same",
        preact=False,
        norm_layer=partial(GroupNormAct, num_groups=config.groups),
        conv_layer=partial(StdConv2dSame, eps=1e-8),
    )
    stem.head = nn.Identity()
    return stem


class HybridEncoder(Encoder):
    """The stem's maps at strides 2, 4, ... up to half the last, then the transformer's taps at the stem's full stride.

    Args:
        stem: from `build_stem`.
        vit: from `build_vit` with patch 1 and the stem's last channels as input channels; its image is the last map.
        taps: indices of the transformer's blocks.
    """

    def __init__(self, stem: ResNetV2, vit: VisionTransformer, taps: Sequence[int]) -> None:
        super().__init__()
        self.stem, self.transformer = stem, ViTEncoder(vit, taps)
        channels = [info["num_chs"] for info in stem.feature_info[:-1]]
        strides = [info["reduction"] for info in stem.feature_info[:-1]]
        last = stem.feature_info[-1]["reduction"]
        self.channels = (*channels, *self.transformer.channels)
        self.strides = (*strides, *(last * stride for stride in self.transformer.strides))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps, finest first.

        Raises:
            InputError: a graph with dynamic height or width is exported; PyTorch's solver of sizes does not come to an
                end in the paddings of the stem.
        """
        if torch.compiler.is_exporting() and any(isinstance(side, torch.SymInt) for side in image.shape[-2:]):
            raise InputError(
                "a convolutional stem before a transformer exports at one height and width; give dynamic_shapes for "
                "the batch alone, one graph a size, or choose a segmenter with another encoder, such as setr_pup_small"
            )
        maps, x = [], image
        for name, layer in self.stem.stem.named_children():
            if name == "pool":
                maps.append(x)
            x = layer(x)
        for stage in self.stem.stages:
            x = stage(x)
            maps.append(x)
        return (*maps[:-1], *self.transformer(x))

    def layer_prefixes(self) -> list[tuple[str, ...]]:
        stem = [("stem.stem.",), *((f"stem.stages.{i}.",) for i in range(len(self.stem.stages)))]
        return stem + [tuple(f"transformer.{p}" for p in layer) for layer in self.transformer.layer_prefixes()]

    def no_weight_decay(self) -> set[str]:
        return {f"transformer.{name}" for name in self.transformer.no_weight_decay()}
