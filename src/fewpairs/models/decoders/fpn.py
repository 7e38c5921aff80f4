"""Semantic FPN: the semantic branch of Panoptic FPN (Kirillov et al. 2019, arXiv 1901.02446), figure 3."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from fewpairs.models.decoders.layers import Norm, check_features, conv_norm_relu, doublings, to_size


class SemanticFPN(nn.Module):
    """Maps `[b channels[i] h_i w_i]`, finest first -> logits `[b classes h_0 w_0]` at the stride of the finest map.

    A feature pyramid `width` wide; each of its maps is brought to the finest stride by stages of a 3x3 convolution,
    normalisation, ReLU and doubling, `branch` wide; their sum is classified. The finest map passes one such stage
    without doubling. Widths 256 and 128 and the dropout of 0.1 are those with which PVT was published (its Semantic FPN
    in mmsegmentation normalises by batch; here group norm is the default, as in Panoptic FPN).

    Raises:
        InputError: channels and strides do not fit together, or strides are not doublings of one another.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 256,
        branch: int = 128,
        dropout: float = 0.1,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        self.names = [str(level) for level in range(len(channels))]
        self.fpn = FeaturePyramidNetwork(list(channels), width)
        self.branches = nn.ModuleList([_branch(stride, strides[0], width, branch, norm) for stride in strides])
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(branch, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        pyramid = self.fpn(dict(zip(self.names, features, strict=True))).values()
        size = features[0].shape[-2:]
        total = sum(to_size(branch(x), size) for branch, x in zip(self.branches, pyramid, strict=True))
        return self.classify(self.dropout(total))


def _branch(stride: int, finest: int, width: int, branch: int, norm: Norm) -> nn.Sequential:
    doubled = doublings(stride // finest) if stride > finest else 0
    layers: list[nn.Module] = []
    for stage in range(max(1, doubled)):
        layers.append(conv_norm_relu(width if stage == 0 else branch, branch, 3, norm))
        if doubled:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
