"""One tiny model of each family of timm that can be swapped, with weights that make attention matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import timm
import torch
from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, MetaFormer, Pooling
from timm.models.volo import VOLO
from timm_hybrids import HYBRIDS
from torch import Tensor, nn

Size = tuple[int, int]
VIT = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}


def named(name: str, **options: object) -> Callable[..., nn.Module]:
    def build(size: Size, **more: object) -> nn.Module:
        return timm.create_model(name, **{"img_size": size, **options, **more})

    return build


def sizeless(name: str, **options: object) -> Callable[..., nn.Module]:
    """For models that take any size."""

    def build(size: Size, **more: object) -> nn.Module:
        return timm.create_model(name, **{**options, **more})

    return build


def volo(size: Size, **more: object) -> nn.Module:
    return VOLO(
        layers=[1, 1, 1, 2],
        img_size=size,
        num_classes=5,
        embed_dims=[16, 32, 32, 32],
        num_heads=[2, 4, 4, 4],
        stem_hidden_dim=8,
        **more,
    )


def metaformer(size: Size, **more: object) -> nn.Module:
    return MetaFormer(
        depths=(1, 1, 1, 1),
        dims=(16, 16, 32, 64),
        token_mixers=[Pooling, Pooling, Attention, Attention],
        norm_layers=[LayerNorm2dNoBias] * 2 + [LayerNormNoBias] * 2,
        num_classes=5,
        **more,
    )


SMALL, WIDE = (32, 32), (32, 48)
FAMILIES: dict[str, tuple[Callable[..., nn.Module], tuple[Size, Size]]] = {
    "vit": (named("vit_tiny_patch16_224", **VIT), (SMALL, WIDE)),
    "vit-norms": (
        named("vit_tiny_patch16_224", **VIT, qk_norm=True, scale_attn_norm=True, init_values=1.0),
        (SMALL, WIDE),
    ),
    "deit": (named("deit_tiny_distilled_patch16_224", **VIT), (SMALL, WIDE)),
    "dinov2-registers": (named("vit_small_patch14_reg4_dinov2", **VIT), (SMALL, WIDE)),
    "vit-relpos": (named("vit_relpos_small_patch16_224", **VIT), (SMALL, WIDE)),
    "vit-shared-relpos": (named("vit_srelpos_small_patch16_224", **VIT), (SMALL, WIDE)),
    "eva": (named("eva02_base_patch14_224", **VIT), (SMALL, WIDE)),
    "eva-joint": (named("vit_medium_patch16_rope_reg1_gap_256", **VIT), (SMALL, WIDE)),
    "dinov3": (named("vit_small_patch16_dinov3", **VIT), (SMALL, WIDE)),
    "rope": (named("vit_small_patch16_rope_224", **VIT), (SMALL, WIDE)),
    "beit": (named("beit_base_patch16_224", **VIT), (SMALL, WIDE)),
    "beit-shared": (
        named("beit_base_patch16_224", **VIT, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        (SMALL, WIDE),
    ),
    "swin": (
        named("swin_tiny_patch4_window7_224", depths=(2, 2), num_heads=(2, 4), embed_dim=16, num_classes=5),
        ((56, 56), (56, 84)),
    ),
    "swinv2": (
        named(
            "swinv2_tiny_window8_256",
            window_size=4,
            depths=(2, 2),
            num_heads=(2, 4),
            embed_dim=16,
            num_classes=5,
        ),
        ((32, 32), (32, 64)),
    ),
    "pvt": (
        sizeless("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(16, 16, 40, 32), num_classes=5),
        ((64, 64), (64, 96)),
    ),
    "pvt-linear": (
        sizeless("pvt_v2_b2_li", depths=(1, 1, 1, 1), embed_dims=(16, 16, 40, 64), num_classes=5),
        ((64, 64), (64, 96)),
    ),
    "tnt": (
        named("tnt_s_patch16_224", embed_dim=32, inner_dim=16, depth=2, num_heads_outer=4, num_classes=5),
        (SMALL, WIDE),
    ),
    "volo": (volo, ((64, 64), (64, 96))),
    "pit": (
        named("pit_ti_224", base_dims=(16, 16, 16), depth=(1, 1, 1), heads=(1, 2, 4), num_classes=5),
        ((64, 64), (64, 96)),
    ),
    "twins": (
        named(
            "twins_svt_small",
            embed_dims=(16, 16, 32, 32),
            num_heads=(1, 2, 2, 2),
            depths=(2, 2, 2, 2),
            num_classes=5,
        ),
        ((64, 64), (64, 96)),
    ),
    "visformer": (named("visformer_tiny", embed_dim=48, num_heads=3, depth=(1, 1, 1), num_classes=5), (SMALL, WIDE)),
    "metaformer": (metaformer, ((64, 64), (64, 96))),
    "sam": (named("samvit_base_patch16_224", **VIT, neck_chans=16, window_size=2), (SMALL, WIDE)),
    "sam-rope": (
        named("samvit_base_patch16_224", **VIT, neck_chans=16, window_size=2, use_rel_pos=False, use_rope=True),
        (SMALL, WIDE),
    ),
}


FAMILIES |= HYBRIDS


def tiny(family: str, which: int = 0, **options: object) -> tuple[nn.Module, Tensor]:
    """A model of the family for its first or second size, in evaluation mode, and two images for it."""
    if not options:
        return copy.deepcopy(_tiny(family, which))
    build, sizes = FAMILIES[family]
    return drawn(build(sizes[which], **options), sizes[which])


@lru_cache
def _tiny(family: str, which: int) -> tuple[nn.Module, Tensor]:
    build, sizes = FAMILIES[family]
    return drawn(build(sizes[which]), sizes[which])


def drawn(model: nn.Module, size: Size) -> tuple[nn.Module, Tensor]:
    """The model with all parameters drawn so that scores and logits are of the order of one, and two images."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, *size, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 0
            parameter.copy_(1.5 * noise / fan_in**0.5 if fan_in > 1 else parameter.sign() + 0.3 * noise)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(image)
        model.eval()
        spread = model(image).std()
        for name, parameter in model.named_parameters():
            if name.startswith(("head", "aux_head")):
                parameter.div_(spread)
    return model, image
