"""Table of classifiers by name, and the function that builds one with any attention.

Where timm has the architecture, timm builds it and `swap_attention` exchanges its attention; CvT, T2T-ViT, So-ViT and
LinGlo are our own. All map `[b in_channels H W] -> [b classes]` and have timm's interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fewpairs.attention import Attention, ScaleBy, parse_attention, parse_variant
from fewpairs.cost.breakdown import trace_model
from fewpairs.errors import CheckpointError, InputError, nearest
from fewpairs.models.architectures import (
    ClassifierRequest,
    PvtShape,
    build_cvt,
    build_linglo_classifier,
    build_pvt,
    build_swin,
    build_tokens,
    build_vit_classifier,
    from_timm,
)
from fewpairs.models.encoders.cvt import CVT_13, CVT_21, CvTStage
from fewpairs.models.encoders.linglo_layout import (
    LINGLO_B0,
    LINGLO_B1,
    LINGLO_B2,
    LINGLO_NANO,
    LINGLO_PICO,
    LinGloLayout,
)
from fewpairs.models.encoders.so_vit import SO_VIT_7, SoViT
from fewpairs.models.encoders.t2t_vit import T2T_VIT_T_19, T2TViT
from fewpairs.models.encoders.timm_registry import ARRANGE
from fewpairs.models.encoders.vit import ViTConfig
from fewpairs.models.pretrained import load_pretrained
from fewpairs.models.weights import first_line
from fewpairs.types import Size


@dataclass(frozen=True)
class ClassifierSpec:
    """One row of the table of classifiers."""

    summary: str
    image_size: Size
    """Default (h, w) in pixels; position tables and windows are made for it."""
    build: Callable[[ClassifierRequest], nn.Module]
    topk: int | float = 0.5
    """Keys that `"knn"` keeps in each stage: a number, or a fraction of the stage's keys."""
    scale_by: ScaleBy = "head"
    """The architecture divides logits by the square root of this width."""
    timm_name: str | None = None
    """Name of the dense model in timm, with the tag of its weights if it is not timm's default."""
    options: tuple[str, ...] = ()
    """Names of the architecture's further options."""
    default_attention: str = "softmax"
    """Attention of the published architecture."""


def create_classifier(
    name: str,
    *,
    attention: Attention | str | None = None,
    classes: int = 1000,
    in_channels: int = 3,
    image_size: Size | None = None,
    drop_path: float = 0.0,
    pretrained: str | Path | bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a classifier by its name in `CLASSIFIERS`.

    Args:
        attention: None for the architecture as published; a name (`"knn"` takes the row's own k), a variant, or a
            sequence of one a stage.
        classes: outputs (logits); 0 for the pooled features.
        image_size: (h, w) in pixels that the model is made for; the row's when None.
        drop_path: stochastic depth of the last block, rising from 0 at the first.
        pretrained: True for timm's weights, or a file, see `load_pretrained`.
        options: options of the architecture; for LinGlo those of `fewpairs.models.encoders.arrange`, such as
            `{"layout": "grafted"}`.

    Raises:
        InputError: a name or option is unknown, a number is out of range, or some layer cannot have the attention.
        CheckpointError: weights cannot be downloaded, or do not fit.
    """
    spec = classifier_spec(name)
    size = image_size or spec.image_size
    for what, value, least in (
        ("classes", classes, 0),
        ("in_channels", in_channels, 1),
        ("image height", size[0], 1),
        ("image width", size[1], 1),
    ):
        if value < least:
            raise InputError(f"{name}: {what}={value} must be {least} or more")
    if not 0 <= drop_path < 1:
        raise InputError(f"{name}: drop_path={drop_path} must be from 0 to below 1")
    for option in options or {}:
        if option not in spec.options:
            known = nearest(option, spec.options) if spec.options else "it has none"
            raise InputError(f"{name} has no option {option!r}; {known}")
    fetch = pretrained is True
    if fetch and spec.timm_name is None:
        raise CheckpointError(f"{name}: there are no weights to download; give a file as pretrained, or leave it out")
    request = ClassifierRequest(
        classifier_attention(spec, attention), classes, in_channels, size, drop_path, fetch, options or {}
    )
    model = spec.build(request)
    if size != spec.image_size:
        _check_size(name, model, request, spec.image_size)
    if isinstance(pretrained, str | Path):
        load_pretrained(model, pretrained)
    return model


def _check_size(name: str, model: nn.Module, request: ClassifierRequest, default: Size) -> None:
    height, width = request.image_size
    try:
        trace_model(model, request.image_size, channels=request.in_channels)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"{name} does not run on {height}x{width} pixels ({first_line(error)}); its own size is "
            f"{default[0]}x{default[1]}, and multiples of 32 fit all"
        ) from error


def classifier_attention(spec: ClassifierSpec, attention: Attention | str | None) -> Attention | None:
    """Return the variant for a name, with the architecture's own k and logit scale."""
    if not isinstance(attention, str):
        return attention
    options: dict[str, Any] = {"name": attention, **({"topk": spec.topk} if attention == "knn" else {})}
    scaled = any(field.name == "scale_by" for field in fields(parse_variant(options)))  # type: ignore[arg-type]
    return parse_attention({**options, "scale_by": spec.scale_by} if scaled else options)


def _timm(summary: str, side: int, name: str, *, topk: int | float = 0.5, **options: Any) -> ClassifierSpec:
    build = partial(from_timm, name=name, **options)
    return ClassifierSpec(summary, (side, side), build, topk=topk, timm_name=name)


def _linglo(summary: str, size: Size, layout: LinGloLayout) -> ClassifierSpec:
    return ClassifierSpec(
        summary, size, partial(build_linglo_classifier, layout=layout), options=ARRANGE, default_attention="keyonly"
    )


_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
_VIT_NANO = ViTConfig(width=64, depth=6, heads=4, patch=4, mlp_ratio=3.0, class_token=True)
_CVT_NANO = (CvTStage(32, 2, 1, 3, 2, 1), CvTStage(64, 4, 4, 3, 2, 1))
_VIT_PICO = ViTConfig(width=48, depth=4, heads=3, patch=4, mlp_ratio=3.0, class_token=True)
_PVT_NANO = PvtShape(
    widths=(16, 32, 64, 128), heads=(1, 2, 4, 8), depths=(2, 2, 2, 2), reductions=(8, 4, 2, 1), mlp_ratio=3.25
)
_PVT_PICO = PvtShape(widths=(24, 48), heads=(1, 3), depths=(2, 3), reductions=(2, 1), mlp_ratio=3.25, stem_stride=2)
_CVT_PICO = (CvTStage(24, 2, 1, 3, 2, 1), CvTStage(48, 4, 3, 3, 2, 1))

CLASSIFIERS: dict[str, ClassifierSpec] = {
    "deit_tiny_patch16_224": _timm("DeiT-Tiny", 224, "deit_tiny_patch16_224", topk=100, **_ANY_SIZE),
    "deit_small_patch16_224": _timm("DeiT-Small", 224, "deit_small_patch16_224", topk=100, **_ANY_SIZE),
    "deit_base_patch16_224": _timm("DeiT-Base", 224, "deit_base_patch16_224", topk=100, **_ANY_SIZE),
    "so_vit_7": ClassifierSpec("So-ViT-7", (224, 224), partial(build_tokens, kind=SoViT, trunk=SO_VIT_7)),
    "visformer_tiny": _timm("Visformer-Tiny", 224, "visformer_tiny"),
    "cvt_13": ClassifierSpec("CvT-13", (224, 224), partial(build_cvt, stages=CVT_13), scale_by="width"),
    "cvt_21": ClassifierSpec("CvT-21", (224, 224), partial(build_cvt, stages=CVT_21), scale_by="width"),
    "tnt_s_patch16_224": _timm("TNT-Small", 224, "tnt_s_patch16_224"),
    "volo_d1_384": _timm("VOLO-D1", 384, "volo_d1_384"),
    "volo_d3_448": _timm("VOLO-D3", 448, "volo_d3_448"),
    "swin_tiny_patch4_window7_224": _timm("Swin-Tiny", 224, "swin_tiny_patch4_window7_224"),
    "t2t_vit_t_19": ClassifierSpec("T2T-ViT-t-19", (224, 224), partial(build_tokens, kind=T2TViT, trunk=T2T_VIT_T_19)),
    "vit_small_patch16_224": _timm("ViT-S/16, DINO", 224, "vit_small_patch16_224.dino", topk=100, **_ANY_SIZE),
    "twins_svt_base": _timm("Twins-SVT-Base", 224, "twins_svt_base"),
    "pit_b_224": _timm("PiT-Base", 224, "pit_b_224"),
    "linglo_b0": _linglo("LinGlo-b0, key-only attention (reconstruction)", (224, 224), LINGLO_B0),
    "linglo_b1": _linglo("LinGlo-b1, key-only attention (reconstruction)", (224, 224), LINGLO_B1),
    "linglo_b2": _linglo("LinGlo-b2, key-only attention (reconstruction)", (224, 224), LINGLO_B2),
    "pvt_v2_b0": _timm("PVTv2-B0", 224, "pvt_v2_b0", any_size=True),
    "pvt_v2_b1": _timm("PVTv2-B1", 224, "pvt_v2_b1", any_size=True),
    "pvt_v2_b2": _timm("PVTv2-B2", 224, "pvt_v2_b2", any_size=True),
    "vit_nano": ClassifierSpec(
        "small: ViT 64 wide, 6 blocks, patch 4, for 28x28 pixels",
        (28, 28),
        partial(build_vit_classifier, config=_VIT_NANO),
    ),
    "cvt_nano": ClassifierSpec(
        "small: CvT 32 and 64 wide, keys at stride 2, for 28x28 pixels",
        (28, 28),
        partial(build_cvt, stages=_CVT_NANO),
        scale_by="width",
    ),
    "swin_nano": ClassifierSpec(
        "small: Swin 32 and 64 wide, patch 2, windows of 7x7, for 28x28 pixels",
        (28, 28),
        partial(build_swin, width=32, depths=(2, 4), heads=(2, 4)),
    ),
    "vit_pico": ClassifierSpec(
        "smallest: ViT 48 wide, 4 blocks, patch 4, for 28x28 pixels",
        (28, 28),
        partial(build_vit_classifier, config=_VIT_PICO),
    ),
    "cvt_pico": ClassifierSpec(
        "smallest: CvT 24 and 48 wide, keys at stride 2, for 28x28 pixels",
        (28, 28),
        partial(build_cvt, stages=_CVT_PICO),
        scale_by="width",
    ),
    "swin_pico": ClassifierSpec(
        "smallest: Swin 24 and 48 wide, patch 2, windows of 7x7, for 28x28 pixels",
        (28, 28),
        partial(build_swin, width=24, depths=(2, 2), heads=(2, 4)),
    ),
    "linglo_pico": _linglo("smallest: LinGlo 24 and 48 wide (reconstruction), for 28x28 pixels", (28, 28), LINGLO_PICO),
    "pvt_v2_pico": ClassifierSpec(
        "smallest: PVTv2 24 and 48 wide, keys at stride 2, for 28x28 pixels",
        (28, 28),
        partial(build_pvt, shape=_PVT_PICO),
    ),
    "linglo_nano": _linglo(
        "small: LinGlo 16 to 128 wide (reconstruction), for pictures of 96x128 pixels", (96, 128), LINGLO_NANO
    ),
    "pvt_v2_nano": ClassifierSpec(
        "small: PVTv2 16 to 128 wide, for pictures of 96x128 pixels",
        (96, 128),
        partial(build_pvt, shape=_PVT_NANO),
    ),
}
"""Every classifier by name: the architectures of the k-NN attention paper, LinGlo and PVTv2, then small ones for a CPU.
"""


def classifier_spec(name: str) -> ClassifierSpec:
    """Return the row of the table.

    Raises:
        InputError: there is no such classifier; the message offers the nearest name.
    """
    if name not in CLASSIFIERS:
        raise InputError(f"classifier {name!r} is not known; {nearest(name, CLASSIFIERS, 'fewpairs models')}")
    return CLASSIFIERS[name]


def list_classifiers(pattern: str = "*") -> list[str]:
    """Return the names of classifiers that match a shell pattern, such as `deit*`."""
    return [name for name in CLASSIFIERS if fnmatchcase(name, pattern)]
