"""Tiny models of timm's hierarchies and hybrids, built by their classes, for the families of `timm_zoo`."""

from __future__ import annotations

from collections.abc import Callable

import timm
from timm.layers.attention2d import MultiQueryAttention2d
from timm.models.cait import Cait
from timm.models.crossvit import CrossVit
from timm.models.davit import DaVit
from timm.models.efficientformer import EfficientFormer
from timm.models.efficientformer_v2 import EfficientFormerV2
from timm.models.fastvit import FastVit
from timm.models.gcvit import GlobalContextVit
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from timm.models.levit import Levit
from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.nest import Nest
from timm.models.nextvit import EfficientAttention
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

Size = tuple[int, int]
Build = Callable[..., nn.Module]


def maxvit(blocks: tuple[str, str], **layer: object) -> Build:
    """MaxViT (`M`, windows and grids), CoAtNet (`T`, the whole map) or windows beside grids (`PM`)."""

    def build(size: Size, **more: object) -> nn.Module:
        window = {"window_size": (size[0] // 8, size[1] // 8)} if blocks[0] != "C" else {}
        transformer = MaxxVitTransformerCfg(dim_head=8, **window, **layer)
        config = MaxxVitCfg((16, 32), (1, 1), blocks, stem_width=8, transformer_cfg=transformer)
        return MaxxVit(config, img_size=size, num_classes=5, **more)

    return build


def sized(kind: type[nn.Module], **options: object) -> Build:
    return lambda size, **more: kind(img_size=size, num_classes=5, **options, **more)


def sizeless(kind: type[nn.Module], **options: object) -> Build:
    return lambda _size, **more: kind(num_classes=5, **options, **more)


class Layers(nn.Module):
    """Layers between a convolution and a mean, for attention whose models are too large to be tiny."""

    def __init__(self, layers: list[nn.Module], drop_path_rate: float = 0.0, *, tokens: bool) -> None:
        super().__init__()
        self.stem, self.drop = nn.Conv2d(3, 16, 4, 4), nn.Dropout(drop_path_rate)
        self.layers, self.head, self.tokens = nn.ModuleList(layers), nn.Linear(16, 5), tokens

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = x.flatten(2).transpose(1, 2) if self.tokens else x
        for layer in self.layers:
            x = x + self.drop(layer(x))
        return self.head(x.mean(1) if self.tokens else x.mean((2, 3)))


def mobilenet(_size: Size, **more: float) -> nn.Module:
    """Layers of MobileNet V4: plain, with strided keys, with strided queries."""
    layers = [
        MultiQueryAttention2d(16, num_heads=2, key_dim=6, value_dim=8),
        MultiQueryAttention2d(16, num_heads=2, kv_stride=2),
        MultiQueryAttention2d(16, num_heads=4, query_strides=2),
    ]
    return Layers(layers, **more, tokens=False)


def nextvit(_size: Size, **more: float) -> nn.Module:
    """Layers of NextViT with pooled keys and with all."""
    return Layers([EfficientAttention(16, head_dim=8, sr_ratio=ratio) for ratio in (2, 1)], **more, tokens=True)


def mvit(size: Size, **more: object) -> nn.Module:
    strides = (1, 1), (2, 2), (2, 2)
    config = MultiScaleVitCfg((1, 1, 2), 16, 1, stride_q=strides, use_cls_token=True)
    return MultiScaleVit(config, img_size=size, num_classes=5, **more)


SMALL, WIDE = (64, 64), (64, 96)
LARGE, LARGER = (96, 96), (96, 128)
HYBRIDS: dict[str, tuple[Build, tuple[Size, Size]]] = {
    "maxvit": (maxvit(("M", "M"), use_nchw_attn=True, rel_pos_type="bias_tf"), (SMALL, WIDE)),
    "maxvit-last": (maxvit(("M", "PM")), (SMALL, WIDE)),
    "coatnet": (maxvit(("C", "T"), head_first=False, rel_pos_type="mlp", rel_pos_dim=16), (SMALL, WIDE)),
    "hiera": (
        sized(
            Hiera, embed_dim=16, stages=(1, 1, 1), q_pool=2, mask_unit_size=(4, 4), mask_unit_attn=(True, True, False)
        ),
        (SMALL, WIDE),
    ),
    "sam2": (
        sizeless(
            HieraDet,
            embed_dim=16,
            num_heads=2,
            stages=(1, 2, 1),
            q_pool=2,
            window_spec=(4, 4, 2),
            global_att_blocks=(2,),
            global_pos_size=(2, 2),
        ),
        (SMALL, WIDE),
    ),
    "mvitv2": (mvit, (SMALL, LARGE)),
    "tinyvit": (
        sizeless(
            TinyVit, embed_dims=(16, 16, 32, 32), depths=(1,) * 4, num_heads=(2, 2, 4, 4), window_sizes=(4, 4, 2, 2)
        ),
        (SMALL, WIDE),
    ),
    "levit": (
        sized(Levit, embed_dim=(16, 24, 32), key_dim=8, num_heads=(2, 3, 4), depth=(1, 1, 1)),
        (LARGE, LARGER),
    ),
    "levit-conv": (
        sized(Levit, embed_dim=(16, 24, 32), key_dim=8, num_heads=(2, 3, 4), depth=(1, 1, 1), use_conv=True),
        (LARGE, LARGER),
    ),
    "efficientformer": (  # its layers have one resolution, whatever the image is
        sizeless(EfficientFormer, depths=(1, 1, 1, 2), embed_dims=(8, 8, 16, 24), num_vit=1),
        ((224, 224), (224, 224)),
    ),
    "efficientformerv2": (
        sized(
            EfficientFormerV2,
            depths=(1, 1, 1, 1),
            embed_dims=(8, 8, 16, 24),
            num_vit=0,
            downsamples=(False, True, True, True),
            distillation=False,
        ),
        (SMALL, WIDE),
    ),
    "fastvit": (
        sizeless(
            FastVit,
            layers=(1, 1, 1, 1),
            embed_dims=(8, 16, 16, 32),
            mlp_ratios=(2,) * 4,
            token_mixers=("repmixer",) * 3 + ("attention",),
        ),
        (SMALL, WIDE),
    ),
    "nextvit": (nextvit, (SMALL, WIDE)),
    "davit": (sizeless(DaVit, embed_dims=(16, 32), depths=(1, 1), num_heads=(2, 4), window_size=4), (SMALL, WIDE)),
    "swinv2-cr": (
        sized(SwinTransformerV2Cr, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=(4, 4)),
        (SMALL, WIDE),
    ),
    "gcvit": (sized(GlobalContextVit, embed_dim=16, depths=(2,) * 4, num_heads=(2, 2, 4, 4)), (SMALL, WIDE)),
    "nest": (sized(Nest, num_levels=2, embed_dims=(16, 32), num_heads=(2, 4), depths=(1, 1)), (SMALL, (128, 128))),
    "cait": (sized(Cait, patch_size=8, embed_dim=32, depth=1, num_heads=2), (SMALL, WIDE)),
    "crossvit": (
        sized(CrossVit, embed_dim=(16, 32), depth=((1, 1, 0), (1, 1, 0)), num_heads=(2, 2)),
        (SMALL, WIDE),
    ),
    "pooled-vit": (
        lambda size, **more: timm.create_model(
            "vit_base_patch16_siglip_224",
            img_size=size,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=2,
            num_classes=5,
            **more,
        ),
        ((32, 32), (32, 48)),
    ),
    "mobilenet": (mobilenet, (SMALL, WIDE)),
}
