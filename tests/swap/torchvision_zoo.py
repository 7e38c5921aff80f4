"""One tiny model of each family of torchvision that can be swapped, with weights that make attention matter."""

from __future__ import annotations

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vision_transformer import VisionTransformer

Size = tuple[int, int]
SIZES: dict[str, tuple[Size, Size]] = {
    "vit": ((32, 32), (48, 48)),
    "swin": ((64, 64), (72, 56)),
    "swinv2": ((64, 64), (72, 56)),
}
FAMILIES = tuple(SIZES)


def build(family: str, size: Size, drop: float) -> nn.Module:
    """torchvision's ViT is built for one square size, Swin for all; `drop` is drop path, or dropout of the tokens."""
    if family == "vit":
        return VisionTransformer(size[0], 8, 2, 2, 32, 64, num_classes=5, dropout=drop)
    second = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if family == "swinv2" else {}
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5, stochastic_depth_prob=drop, **second)


@lru_cache
def _tiny(family: str, which: int, drop: float) -> tuple[nn.Module, Tensor]:
    model = build(family, SIZES[family][which], drop).eval()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, *SIZES[family][which], generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            parameter.copy_(1.5 * noise / fan_in**0.5 if fan_in > 1 else parameter.sign() + 0.3 * noise)
    return model, image


def tiny(family: str, which: int = 0, *, drop: float = 0.0) -> tuple[nn.Module, Tensor]:
    """A model of the family for its first or second size, in evaluation mode, and two images for it."""
    return copy.deepcopy(_tiny(family, which, drop))
