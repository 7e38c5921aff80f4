"""Tiny models of MONAI, segmentation_models_pytorch and open_clip, with weights that make attention matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from monai.networks.blocks import CrossAttentionBlock, SABlock
from monai.networks.blocks.transformerblock import TransformerBlock
from monai.networks.nets import UNETR, SwinUNETR, ViT, ViTAutoEnc
from monai.networks.nets.swin_unetr import SwinTransformer
from open_clip.timm_model import TimmModel
from open_clip.transformer import CustomResidualAttentionBlock, TextTransformer, VisionTransformer
from segmentation_models_pytorch import Unet
from torch import Tensor, nn

Size = tuple[int, ...]
TOKENS = ((9, 24), (14, 24))
"""Sizes of sequences of tokens of 24 features."""


class Family(NamedTuple):
    """How a tiny model is built for a size; `drops` is how it is built to drop something in training, if it can."""

    build: Callable[..., nn.Module]
    sizes: tuple[Size, Size]
    drops: dict[str, float]
    channels: int | None = 1
    """Channels of the image; None for tokens."""


class First(nn.Module):
    """A model that gives one tensor: the last map of several, the first part of a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        output = self.model(image)
        while not isinstance(output, Tensor):
            output = output[-1] if isinstance(output, list) else output[0]
        return output


class Layers(nn.Module):
    """Layers after one another, each added to its input."""

    def __init__(self, *layers: nn.Module, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.layers, self.drop = nn.ModuleList(layers), nn.Dropout(dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + self.drop(layer(nn.functional.layer_norm(x, x.shape[-1:])))
        return x


class Context(nn.Module):
    """MONAI's block with cross-attention, whose context are some of the tokens."""

    def __init__(self, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.block = TransformerBlock(24, 32, 2, dropout_rate, with_cross_attention=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, context=x[:, :5])


class Words(nn.Module):
    """open_clip's text tower, with a causal mask, on words that the numbers choose."""

    def __init__(self, _size: Size) -> None:
        super().__init__()
        self.tower = TextTransformer(context_length=9, vocab_size=20, width=24, heads=2, layers=2, output_dim=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.tower((x[:, :9, 0] * 100).long().abs() % 19 + 1)


def swin(size: Size, **options: float) -> nn.Module:
    dims = len(size)
    return First(
        SwinTransformer(
            1, 12, (4,) * dims, (2,) * dims, (2, 2, 1, 1), (2, 2, 4, 4), qkv_bias=True, spatial_dims=dims, **options
        )
    )


def sa_blocks(_size: Size, dropout_rate: float = 0.0) -> nn.Module:
    """`SABlock` in all its ways: maps apart, wider heads, causal, keeping its maps, fused."""
    return Layers(
        SABlock(24, 2, dropout_rate, qkv_bias=True, use_combined_linear=False),
        SABlock(24, 2, dropout_rate, dim_head=10, include_fc=True),
        SABlock(24, 2, dropout_rate, causal=True, sequence_length=16),
        SABlock(24, 2, dropout_rate, save_attn=True, attention_dtype=torch.float32),
        SABlock(24, 2, use_flash_attention=True),
        dropout_rate=dropout_rate,
    )


def rel_pos(size: Size, dropout_rate: float = 0.0) -> nn.Module:
    where = {"rel_pos_embedding": "decomposed", "input_size": (3, 3) if size[0] == 9 else (2, 7)}
    return Layers(SABlock(24, 2, dropout_rate, **where), CrossAttentionBlock(24, 2, dropout_rate, **where))


def custom(_size: Size, dropout_rate: float = 0.0) -> nn.Module:
    norms = {"scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}
    return Layers(
        CustomResidualAttentionBlock(24, 2, qk_norm=True, **norms),
        CustomResidualAttentionBlock(24, 3),
        dropout_rate=dropout_rate,
    )


def timm_tower(size: Size) -> nn.Module:
    tower = TimmModel("vit_tiny_patch16_224", 16, pool="", proj="linear")
    tower.trunk.set_input_size(size)
    del tower.trunk.blocks[2:]
    return First(tower)


MAP, VOLUME = ((32, 32), (32, 64)), ((32, 32, 32), (32, 32, 64))
FAMILIES: dict[str, Family] = {
    "monai-vit": Family(
        lambda size, **o: First(ViT(1, size, (8, 8), 24, 32, 2, 2, classification=True, spatial_dims=2, **o)),
        MAP,
        {"dropout_rate": 0.3},
    ),
    "monai-unetr": Family(
        lambda size, **o: UNETR(1, 2, size, 4, 24, 32, 2, **o), ((32, 32, 32), (32, 32, 48)), {"dropout_rate": 0.3}
    ),
    "monai-vitautoenc": Family(
        lambda size, **o: First(ViTAutoEnc(1, size, (4, 4), 1, 4, 24, 32, 2, 2, spatial_dims=2, **o)),
        ((16, 16), (16, 32)),
        {"dropout_rate": 0.3},
    ),
    "monai-swin-2d": Family(swin, MAP, {"drop_path_rate": 0.4}),
    "monai-swin-3d": Family(swin, VOLUME, {"drop_path_rate": 0.4}),
    "monai-swinunetr": Family(
        lambda size, **o: SwinUNETR(1, 2, depths=(2, 1, 1, 1), feature_size=12, spatial_dims=2, **o),
        ((64, 64), (64, 96)),
        {"dropout_path_rate": 0.4},
    ),
    "monai-blocks": Family(sa_blocks, TOKENS, {"dropout_rate": 0.3}, None),
    "monai-relative": Family(rel_pos, TOKENS, {"dropout_rate": 0.3}, None),
    "monai-context": Family(lambda _size, **o: Context(**o), TOKENS, {"dropout_rate": 0.3}, None),
    "smp-mit": Family(lambda _size: Unet("mit_b0", encoder_weights=None, classes=2), ((64, 64), (64, 96)), {}, 3),
    "clip": Family(
        lambda size: VisionTransformer(size[0], 8, 24, 2, 2, 2.0, output_dim=8), ((32, 32), (48, 48)), {}, 3
    ),
    "clip-pooler": Family(
        lambda size: VisionTransformer(
            size[0], 8, 24, 2, 2, 2.0, attentional_pool=True, attn_pooler_queries=5, attn_pooler_heads=2, output_dim=8
        ),
        ((32, 32), (48, 48)),
        {},
        3,
    ),
    "clip-custom": Family(custom, TOKENS, {"dropout_rate": 0.3}, None),
    "clip-text": Family(Words, TOKENS, {}, None),
    "clip-timm": Family(timm_tower, ((64, 64), (96, 96)), {}, 3),
}


@lru_cache
def _tiny(family: str, which: int, drop: bool) -> tuple[nn.Module, Tensor]:
    build, sizes, drops, channels = FAMILIES[family]
    torch.manual_seed(1)
    model = build(sizes[which], **(drops if drop else {})).eval()
    generator = torch.Generator().manual_seed(1)
    shape = sizes[which] if channels is None else (channels, *sizes[which])
    image = torch.randn(2, *shape, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            if "logit_scale" not in name:
                parameter.copy_(1.5 * noise / fan_in**0.5 if fan_in > 1 else parameter.sign() + 0.3 * noise)
    return model, image


def tiny(family: str, which: int = 0, *, drop: bool = False) -> tuple[nn.Module, Tensor]:
    """A model of the family for its first or second size, in evaluation mode, and two images for it."""
    return copy.deepcopy(_tiny(family, which, drop))
