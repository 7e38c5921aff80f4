"""Table of encoders without decoders, as the literature counts their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.errors import InputError, nearest
from fewpairs.models.encoders.cvt import CVT_13, CVT_21, CvT, CvTStage
from fewpairs.models.encoders.vit import ViTConfig, build_vit
from fewpairs.types import Size


@dataclass(frozen=True)
class EncoderSpec:
    """One row of the table of encoders. `build(attention, image_size, in_channels, classes)` gives the module."""

    summary: str
    image_size: Size
    classes: int
    """Default number of classes of the head; 0 for no head."""
    build: Callable[[Attention, Size, int, int], nn.Module]


def _vit(attention: Attention, image_size: Size, in_channels: int, classes: int, *, config: ViTConfig) -> nn.Module:
    return build_vit(config, attention, image_size=image_size, in_channels=in_channels, classes=classes)


def _cvt(
    attention: Attention,
    _size: Size,
    in_channels: int,
    classes: int,
    *,
    stages: tuple[CvTStage, ...],
    stride_kv: int,
) -> nn.Module:
    return CvT(stages, attention, stride_kv=stride_kv, in_chans=in_channels, num_classes=classes, drop_path_rate=0.0)


_B16 = ViTConfig(width=768, depth=12, heads=12)

ENCODERS: dict[str, EncoderSpec] = {
    "vit_s16": EncoderSpec(
        "ViT-S/16 without class token", (224, 224), 0, partial(_vit, config=ViTConfig(width=384, depth=12, heads=6))
    ),
    "vit_b16": EncoderSpec("ViT-B/16 without class token", (224, 224), 0, partial(_vit, config=_B16)),
    "vit_b16_mlp3": EncoderSpec(
        "ViT-B/16 without class token, feed-forward ratio 3",
        (224, 224),
        0,
        partial(_vit, config=ViTConfig(width=768, depth=12, heads=12, mlp_ratio=3.0)),
    ),
    "vit_l16": EncoderSpec(
        "ViT-L/16 without class token", (224, 224), 0, partial(_vit, config=ViTConfig(width=1024, depth=24, heads=16))
    ),
    "cvt_13": EncoderSpec(
        "CvT-13 classifier as published: keys and values at stride 2",
        (224, 224),
        1000,
        partial(_cvt, stages=CVT_13, stride_kv=2),
    ),
    "cvt_13_stride1": EncoderSpec(
        "CvT-13 classifier, keys and values at stride 1: for every attention",
        (224, 224),
        1000,
        partial(_cvt, stages=CVT_13, stride_kv=1),
    ),
    "cvt_21": EncoderSpec(
        "CvT-21 classifier as published: keys and values at stride 2",
        (224, 224),
        1000,
        partial(_cvt, stages=CVT_21, stride_kv=2),
    ),
    "cvt_21_stride1": EncoderSpec(
        "CvT-21 classifier, keys and values at stride 1: for every attention",
        (224, 224),
        1000,
        partial(_cvt, stages=CVT_21, stride_kv=1),
    ),
}


def create_encoder(
    name: str,
    *,
    attention: Attention | None = None,
    image_size: Size | None = None,
    in_channels: int = 3,
    classes: int | None = None,
) -> nn.Module:
    """Build an encoder by its name in `ENCODERS`, with a head of `classes` (the row's default when None, 0 for none).

    Raises:
        InputError: the name is unknown, the number of variants is wrong, or the attention cannot have the strided keys
            of the published CvT.
    """
    if name not in ENCODERS:
        raise InputError(f"encoder {name!r} is not known; {nearest(name, ENCODERS, 'fewpairs models')}")
    spec = ENCODERS[name]
    classes = spec.classes if classes is None else classes
    return spec.build(
        Softmax() if attention is None else attention, image_size or spec.image_size, in_channels, classes
    )
