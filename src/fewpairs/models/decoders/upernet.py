"""UperNet's semantic head (Xiao et al. 2018, arXiv 1807.10221): a pyramid of poolings on top of a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewpairs.models.decoders.layers import Norm, check_features, conv_norm_relu, to_size

BINS = (1, 2, 3, 6)
"""Rows and columns of the poolings of PSPNet (arXiv 1612.01105), which UperNet puts on the coarsest map."""


class PyramidPooling(nn.Module):
    """`[b c h w]` -> `[b width h w]`: the map beside its means over 1, 4, 9 and 36 parts, through a convolution."""

    def __init__(self, channels: int, width: int, *, bins: Sequence[int] = BINS, norm: Norm = "group") -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [nn.Sequential(nn.AdaptiveAvgPool2d(side), conv_norm_relu(channels, width, 1, norm)) for side in bins]
        )
        self.join = conv_norm_relu(channels + len(bins) * width, width, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([x, *(to_size(part(x), x.shape[-2:]) for part in self.parts)], dim=1))


class UperNet(nn.Module):
    """Maps `[b channels[i] h_i w_i]`, finest first -> logits `[b classes h_0 w_0]` at the stride of the finest map.

    Width 512 and dropout 0.1 are those with which Swin was published. Group norm is the default, where mmsegmentation
    synchronises batch norm: a batch norm cannot learn from the single place of a pooled map of one image.

    Raises:
        InputError: channels and strides do not fit together.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 512,
        dropout: float = 0.1,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        *finer, coarsest = channels
        self.pool = PyramidPooling(coarsest, width, norm=norm)
        self.lateral = nn.ModuleList([conv_norm_relu(c, width, 1, norm) for c in finer])
        self.smooth = nn.ModuleList([conv_norm_relu(width, width, 3, norm) for _ in finer])
        self.fuse = conv_norm_relu(len(channels) * width, width, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *finer, coarsest = features
        maps = [self.pool(coarsest)]
        for lateral, x in zip(reversed(self.lateral), reversed(finer), strict=True):
            side = lateral(x)
            maps.append(side + to_size(maps[-1], side.shape[-2:]))
        smoothed = [smooth(x) for smooth, x in zip(reversed(self.smooth), maps[1:], strict=True)]
        levels = [to_size(x, features[0].shape[-2:]) for x in (*reversed(smoothed), maps[0])]
        return self.classify(self.dropout(self.fuse(torch.cat(levels, dim=1))))
