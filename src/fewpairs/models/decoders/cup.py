"""TransUNet's cascaded upsampler (arXiv 2102.04306)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.decoders.layers import Norm, check_features, conv_norm_relu, doublings, token_norm, upsample


class CUPDecoder(nn.Module):
    """CUP: 3x3 convolution to `hidden`, one block a doubling up to full size, and a 3x3 convolution to the classes.

    A block doubles the map, concatenates the encoder's map of that stride if there is one, and convolves twice. The
    encoder's deepest map is normalised first, as TransUNet's encoder does itself.

    Args:
        widths: widths of the blocks, deepest first; their number is that of the encoder stride's doublings.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        widths: Sequence[int] = (256, 128, 64, 16),
        hidden: int = 512,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_features(channels, strides)
        if len(widths) != doublings(strides[-1]):
            raise InputError(
                f"the CUP decoder needs one width a doubling: {doublings(strides[-1])} for stride {strides[-1]}, "
                f"not {len(widths)}"
            )
        self.skips = [strides.index(s) if s in strides else None for s in _strides_up(strides[-1])]
        self.norm = token_norm(channels[-1])
        self.hidden = conv_norm_relu(channels[-1], hidden, 3, norm)
        self.blocks = nn.ModuleList()
        for before, width, skip in zip((hidden, *widths), widths, self.skips, strict=False):
            joined = before + (0 if skip is None else channels[skip])
            self.blocks.append(
                nn.Sequential(conv_norm_relu(joined, width, 3, norm), conv_norm_relu(width, width, 3, norm))
            )
        self.classify = nn.Conv2d(widths[-1], classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.hidden(self.norm(features[-1]))
        for block, skip in zip(self.blocks, self.skips, strict=True):
            x = upsample(x, 2)
            x = block(x if skip is None else torch.cat([x, features[skip]], dim=1))
        return self.classify(x)


def _strides_up(stride: int) -> list[int]:
    """Return the strides after each doubling: 16 -> [8, 4, 2, 1]."""
    return [stride >> step for step in range(1, doublings(stride) + 1)]
