"""The three decoders of SETR (arXiv 2012.15840) and its auxiliary head.

Every decoder is called as `decoder(features)` with the encoder's maps, finest first, and gives logits `[b k h w]` at a
stride of its own; the segmenter resizes them to the image. Constructors take the encoder's `channels` and `strides`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.decoders.layers import Norm, check_features, conv_norm_relu, doublings, token_norm, upsample


class NaiveDecoder(nn.Module):
    """SETR-Naive: token norm, one convolution to `width`, one 1x1 convolution to the classes, at the encoder's stride.

    Args:
        kernel: size of the first convolution; 1 in the authors' ViT-B configuration, 3 in the others.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 256,
        kernel: int = 3,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        self.norm = token_norm(channels[-1])
        self.conv = conv_norm_relu(channels[-1], width, kernel, norm)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.classify(self.conv(self.norm(features[-1])))


class PUPDecoder(nn.Module):
    """SETR-PUP, progressive upsampling: 3x3 convolution to `width` and doubling in turns, at stride 2 the classes.

    The last doubling is the segmenter's. A stride of 16 gives the paper's four convolutions, one of 8 three.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 256,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        steps = doublings(strides[-1])
        self.norm = token_norm(channels[-1])
        self.convs = nn.ModuleList(
            [conv_norm_relu(channels[-1] if step == 0 else width, width, 3, norm) for step in range(steps)]
        )
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.convs[0](self.norm(features[-1]))
        for conv in self.convs[1:]:
            x = conv(upsample(x, 2))
        return self.classify(x)


class MLADecoder(nn.Module):
    """SETR-MLA, multi-level aggregation: the last `levels` maps, summed from the deepest up, upsampled by 4 and joined.

    Each map is normalised, reduced to `width` by a 1x1 convolution and added to all deeper ones; a 3x3 convolution and
    two more to `head_width` follow for each level. The logits have a quarter of the encoder's stride.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        levels: int = 4,
        width: int = 256,
        head_width: int = 128,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        if len(set(strides[-levels:])) != 1 or len(strides) < levels:
            raise InputError(f"the MLA decoder joins {levels} maps of one stride; the encoder gives strides {strides}")
        self.levels = levels
        self.norms = nn.ModuleList([token_norm(c) for c in channels[-levels:]])
        self.reduce = nn.ModuleList([conv_norm_relu(c, width, 1, norm) for c in channels[-levels:]])
        self.smooth = nn.ModuleList([conv_norm_relu(width, width, 3, norm) for _ in range(levels)])
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    conv_norm_relu(width, head_width, 3, norm),
                    conv_norm_relu(head_width, head_width, 3, norm),
                )
                for _ in range(levels)
            ]
        )
        self.classify = nn.Conv2d(levels * head_width, classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        maps = [
            reduce(norm(feature))
            for reduce, norm, feature in zip(self.reduce, self.norms, features[-self.levels :], strict=True)
        ]
        for level in reversed(range(self.levels - 1)):
            maps[level] = maps[level] + maps[level + 1]
        smoothed = [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]
        # the authors align corners here, and nowhere else
        wide = [upsample(head(x), 4, align_corners=True) for head, x in zip(self.heads, smoothed, strict=True)]
        return self.classify(torch.cat(wide, dim=1))


class AuxiliaryHead(nn.Module):
    """Deep supervision from one of the encoder's maps: SETR's two convolutions, then four times the size.

    Args:
        level: index of the map in the encoder's features.
    """

    def __init__(self, level: int, channels: int, classes: int, *, width: int = 256, norm: Norm = "batch") -> None:
        super().__init__()
        self.level = level
        self.norm = token_norm(channels)
        self.conv = conv_norm_relu(channels, width, 3, norm)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        # a 1x1 convolution commutes with bilinear interpolation: the authors' order costs sixteen times as much
        return upsample(self.classify(self.conv(self.norm(features[self.level]))), 4)
