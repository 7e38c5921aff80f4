"""Builders of the classifiers: timm's models with swapped attention, or our own encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import timm
from timm.models.pvt_v2 import OverlapPatchEmbed, PyramidVisionTransformerV2
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.errors import CheckpointError, InputError
from fewpairs.models.encoders.cvt import CvT, CvTStage
from fewpairs.models.encoders.linglo_layout import LinGloLayout
from fewpairs.models.encoders.so_vit import SoViT
from fewpairs.models.encoders.t2t_vit import T2TViT
from fewpairs.models.encoders.timm_registry import build_linglo
from fewpairs.models.encoders.token_vit import Trunk
from fewpairs.models.encoders.vit import ViTConfig, build_vit
from fewpairs.models.traced_size import hold_traced_size
from fewpairs.models.weights import first_line
from fewpairs.swap import describe, swap_attention
from fewpairs.types import Size


@dataclass(frozen=True)
class ClassifierRequest:
    """The user's choices for a classifier of the table."""

    attention: Attention | None
    """None keeps the architecture's own dense attention."""
    classes: int
    in_channels: int
    image_size: Size
    drop_path: float
    pretrained: bool
    """Whether timm downloads weights."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture, by the names in its row of the table."""


def swap_every_layer(model: nn.Module, attention: Attention) -> nn.Module:
    """Put `attention` into all layers of `model` that form scores, and return the model.

    Raises:
        InputError: one of these layers cannot have the variant.
    """
    able = {layer.name for layer in describe(model) if layer.reason_left_alone is None}
    receipt = swap_attention(model, attention)
    refused = [left for left in receipt.left if left.name in able]
    if refused:
        raise InputError(
            f"{len(refused)} of {len(able)} attention layers cannot have {attention}: {refused[0].name}, because "
            f"{refused[0].reason}; to put it into only the others, use fewpairs.swap_attention on the dense model"
        )
    return model


def from_timm(request: ClassifierRequest, *, name: str, any_size: bool = False, **options: Any) -> nn.Module:
    """Build timm's model of this name with timm's `options`; `any_size` says that it takes no image size.

    Raises:
        InputError: timm cannot build it with these choices.
        CheckpointError: its weights cannot be downloaded.
    """
    if not any_size:
        options["img_size"] = (
            request.image_size[0] if request.image_size[0] == request.image_size[1] else request.image_size
        )
    try:
        model: nn.Module = timm.create_model(
            name,
            pretrained=request.pretrained,
            in_chans=request.in_channels,
            num_classes=request.classes,
            drop_path_rate=request.drop_path,
            **options,
        )
    except Exception as error:  # timm, huggingface_hub and the network raise many kinds
        if not request.pretrained:
            what = (
                f"{request.image_size[0]}x{request.image_size[1]} pixels ({type(error).__name__}: {first_line(error)})"
            )
            raise InputError(f"{name}: timm cannot build it for {what}; give another image_size") from error
        raise CheckpointError(
            f"{name}: timm could not load its weights ({type(error).__name__}: {first_line(error)}); download the file "
            "where there is a network and give its path as pretrained, or leave it out"
        ) from error
    if not any_size:
        hold_traced_size(model)
    return model if request.attention is None else swap_every_layer(model, request.attention)


def build_cvt(request: ClassifierRequest, *, stages: Sequence[CvTStage]) -> nn.Module:
    """Build CvT with the published strides; its dense attention divides logits by the root of the whole width."""
    return CvT(
        stages,
        Softmax(scale_by="width") if request.attention is None else request.attention,
        in_chans=request.in_channels,
        num_classes=request.classes,
        drop_path_rate=request.drop_path,
    )


def build_tokens(request: ClassifierRequest, *, kind: type[T2TViT] | type[SoViT], trunk: Trunk) -> nn.Module:
    """Build T2T-ViT or So-ViT."""
    return kind(
        trunk,
        Softmax() if request.attention is None else request.attention,
        img_size=request.image_size,
        in_chans=request.in_channels,
        num_classes=request.classes,
        drop_path_rate=request.drop_path,
    )


def build_vit_classifier(request: ClassifierRequest, *, config: ViTConfig) -> nn.Module:
    """Build a plain vision transformer of any size."""
    return build_vit(
        config,
        Softmax() if request.attention is None else request.attention,
        image_size=request.image_size,
        in_channels=request.in_channels,
        classes=request.classes,
        drop_path=request.drop_path,
    )


def build_swin(request: ClassifierRequest, *, width: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> nn.Module:
    """Build a small Swin of two stages with patches of 2; a window is half the first map and the whole second map."""
    model = SwinTransformer(
        img_size=request.image_size,
        patch_size=2,
        window_size=tuple(-(-side // 4) for side in request.image_size),
        embed_dim=width,
        depths=depths,
        num_heads=heads,
        mlp_ratio=3.0,
        in_chans=request.in_channels,
        num_classes=request.classes,
        drop_path_rate=request.drop_path,
    )
    hold_traced_size(model)
    return model if request.attention is None else swap_every_layer(model, request.attention)


def build_linglo_classifier(request: ClassifierRequest, *, layout: LinGloLayout) -> nn.Module:
    """Build LinGlo, by default with key-only attention."""
    attention = {} if request.attention is None else {"attention": request.attention}
    shape = {"in_chans": request.in_channels, "num_classes": request.classes, "drop_path_rate": request.drop_path}
    return build_linglo(layout, {**request.options, **attention, **shape})


@dataclass(frozen=True, kw_only=True)
class PvtShape:
    """Settings of each stage of a small PVTv2."""

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    reductions: tuple[int, ...]
    mlp_ratio: float
    stem_stride: int = 4
    """Stride of the first embedding: PVTv2's 4 with a kernel of 7, or 2 with a kernel of 3 for small images."""


def build_pvt(request: ClassifierRequest, *, shape: PvtShape) -> nn.Module:
    """Build a small PVTv2 from timm's modules."""
    model = PyramidVisionTransformerV2(
        in_chans=request.in_channels,
        num_classes=request.classes,
        depths=shape.depths,
        embed_dims=shape.widths,
        num_heads=shape.heads,
        sr_ratios=shape.reductions,
        mlp_ratios=(shape.mlp_ratio,) * len(shape.widths),
        drop_path_rate=request.drop_path,
    )
    if shape.stem_stride != 4:
        model.patch_embed = OverlapPatchEmbed(3, shape.stem_stride, request.in_channels, shape.widths[0])
        model.patch_embed.apply(model._init_weights)
        for info in model.feature_info:
            info["reduction"] = info["reduction"] * shape.stem_stride // 4
    return model if request.attention is None else swap_every_layer(model, request.attention)
