"""Table of segmenters by name, and the functions that build them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from torch import nn

from fewpairs.attention import Attention, Softmax
from fewpairs.errors import InputError, nearest
from fewpairs.models.decoders import (
    AuxiliaryHead,
    CUPDecoder,
    MLADecoder,
    NaiveDecoder,
    Norm,
    PUPDecoder,
    SemanticFPN,
    UperNet,
)
from fewpairs.models.encoders import (
    CVT_13,
    CVT_21,
    R50,
    CvTEncoder,
    CvTStage,
    Encoder,
    HybridEncoder,
    StemConfig,
    ViTConfig,
    ViTEncoder,
    build_stem,
    build_vit,
)
from fewpairs.models.pretrained import LoadReport, load_pretrained
from fewpairs.models.pyramid import Pyramid, create_pyramid
from fewpairs.models.segmenter import Segmenter
from fewpairs.models.weights import read_weights
from fewpairs.types import Size


@dataclass(frozen=True)
class SegmenterRequest:
    """The user's choices for a segmenter of the table."""

    attention: Attention
    classes: int
    in_channels: int
    image_size: Size
    auxiliary: bool
    drop_path: float
    keep_attention: bool = False
    """Whether a pyramid encoder keeps its own attention, because none was requested."""
    encoder: str | None = None
    """Name of the pyramid encoder, for rows that take one."""


@dataclass(frozen=True)
class ModelSpec:
    """One row of the table of segmenters."""

    summary: str
    image_size: Size
    """Default (h, w) in pixels; the model takes any other too."""
    build: Callable[[SegmenterRequest], Segmenter]
    encoder: str | None = None
    """Default pyramid encoder, for rows that take any."""


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder, built by `make(channels, strides, classes)`, and the width of its auxiliary heads."""

    make: Callable[..., nn.Module]
    levels: int = 1
    """Number of vision transformer blocks that the decoder reads."""
    aux_width: int = 256
    norm: Norm = "batch"


def scaled_layers(depth: int, parts: Sequence[int], whole: int = 24) -> tuple[int, ...]:
    """Return block indices at `parts` of `whole`: SETR's layers 10, 15, 20, 24 of 24 are 5, 8, 10, 12 of 12."""
    return tuple(sorted({max(1, int(depth * part / whole + 0.5)) - 1 for part in parts}))


def vit_taps(depth: int, decoder: DecoderConfig, auxiliary: bool) -> tuple[int, ...]:
    """Return the blocks that decoder and auxiliary heads read: SETR's, scaled to the depth, with the last block."""
    if decoder.levels > 1:
        return scaled_layers(depth, [24 * (level + 1) // decoder.levels for level in range(decoder.levels)])
    return scaled_layers(depth, (10, 15, 20, 24)) if auxiliary else (depth - 1,)


def build_segmenter(
    encoder: Encoder, decoder: DecoderConfig, request: SegmenterRequest, aux_levels: Sequence[int]
) -> Segmenter:
    """Build a segmenter of an encoder and a decoder, with auxiliary heads on the encoder's maps `aux_levels`."""
    aux = [
        AuxiliaryHead(level, encoder.channels[level], request.classes, width=decoder.aux_width, norm=decoder.norm)
        for level in (aux_levels if request.auxiliary else ())
    ]
    module = decoder.make(encoder.channels, encoder.strides, request.classes, norm=decoder.norm)
    return Segmenter(encoder, module, in_channels=request.in_channels, out_channels=request.classes, aux_heads=aux)


def setr(request: SegmenterRequest, *, vit: ViTConfig, decoder: DecoderConfig) -> Segmenter:
    """Build a plain vision transformer and one of SETR's decoders; auxiliary heads are on every tapped block."""
    taps = vit_taps(vit.depth, decoder, request.auxiliary)
    transformer = build_vit(
        vit,
        request.attention,
        image_size=request.image_size,
        in_channels=request.in_channels,
        drop_path=request.drop_path,
    )
    return build_segmenter(ViTEncoder(transformer, taps), decoder, request, range(len(taps)))


def conv_setr(request: SegmenterRequest, *, stem: StemConfig, vit: ViTConfig, decoder: DecoderConfig) -> Segmenter:
    """Build TransUNet's convolutional stem and a transformer; auxiliary heads are on the transformer's blocks."""
    taps = vit_taps(vit.depth, decoder, request.auxiliary)
    height, width = (-(-side // stem.stride) for side in request.image_size)
    transformer = build_vit(
        vit, request.attention, image_size=(height, width), in_channels=stem.channels[-1], drop_path=request.drop_path
    )
    encoder = HybridEncoder(build_stem(stem, request.in_channels), transformer, taps)
    first = len(encoder.channels) - len(taps)
    return build_segmenter(encoder, decoder, request, range(first, len(encoder.channels)))


def cvt_setr(request: SegmenterRequest, *, stages: Sequence[CvTStage], decoder: DecoderConfig) -> Segmenter:
    """Build CvT without class token, keys and values at stride 1; auxiliary heads are on the later stages."""
    encoder = CvTEncoder(stages, request.attention, in_channels=request.in_channels, drop_path=request.drop_path)
    return build_segmenter(encoder, decoder, request, range(1, len(stages)))


def pyramid_segmenter(request: SegmenterRequest, *, decoder: DecoderConfig) -> Segmenter:
    """A decoder on any pyramid; with an auxiliary head on the second coarsest map, as mmsegmentation's FCN head."""
    encoder = create_pyramid(
        str(request.encoder),
        attention=None if request.keep_attention else request.attention,
        in_channels=request.in_channels,
        drop_path=request.drop_path,
    )
    return build_segmenter(encoder, decoder, request, [len(encoder.channels) - 2])


ENCODER = "pvt_v2_b0"
"""Default pyramid encoder."""

VIT_S16 = ViTConfig(width=384, depth=12, heads=6)
VIT_B16 = ViTConfig(width=768, depth=12, heads=12)
VIT_L16 = ViTConfig(width=1024, depth=24, heads=16)
VIT_B1 = ViTConfig(width=768, depth=12, heads=12, patch=1)
VIT_SMALL = ViTConfig(width=128, depth=6, heads=4, patch=8)
VIT_SMALL_1 = ViTConfig(width=128, depth=6, heads=4, patch=1)
STEM_SMALL = StemConfig(units=(1, 1), channels=(64, 128), first=16, groups=8)
CVT_SMALL = (CvTStage(32, 1, 1, 7, 4, 2), CvTStage(64, 2, 2), CvTStage(128, 4, 4, stride=1))

NAIVE_BASE = DecoderConfig(partial(NaiveDecoder, kernel=1))
NAIVE = DecoderConfig(NaiveDecoder)
PUP = DecoderConfig(PUPDecoder)
MLA = DecoderConfig(MLADecoder, levels=4)
CUP = DecoderConfig(CUPDecoder)
SEMANTIC_FPN = DecoderConfig(SemanticFPN, norm="group")
UPERNET = DecoderConfig(UperNet, norm="group")
SEMANTIC_FPN_SMALL = DecoderConfig(partial(SemanticFPN, width=64, branch=64), aux_width=64, norm="group")
NAIVE_SMALL = DecoderConfig(partial(NaiveDecoder, width=64), aux_width=64, norm="group")
PUP_SMALL = DecoderConfig(partial(PUPDecoder, width=64), aux_width=64, norm="group")
MLA_SMALL = DecoderConfig(partial(MLADecoder, width=64, head_width=32), levels=4, aux_width=64, norm="group")
CUP_SMALL = DecoderConfig(partial(CUPDecoder, widths=(64, 32, 16), hidden=128), aux_width=64, norm="group")

MODELS: dict[str, ModelSpec] = {
    "setr_naive_vit_s16": ModelSpec(
        "ViT-S/16, SETR-Naive decoder", (256, 256), partial(setr, vit=VIT_S16, decoder=NAIVE_BASE)
    ),
    "setr_naive_vit_b16": ModelSpec(
        "ViT-B/16, SETR-Naive decoder", (256, 256), partial(setr, vit=VIT_B16, decoder=NAIVE_BASE)
    ),
    "setr_naive_vit_l16": ModelSpec(
        "ViT-L/16, SETR-Naive decoder", (256, 256), partial(setr, vit=VIT_L16, decoder=NAIVE)
    ),
    "setr_pup_vit_s16": ModelSpec("ViT-S/16, SETR-PUP decoder", (256, 256), partial(setr, vit=VIT_S16, decoder=PUP)),
    "setr_pup_vit_b16": ModelSpec("ViT-B/16, SETR-PUP decoder", (256, 256), partial(setr, vit=VIT_B16, decoder=PUP)),
    "setr_pup_vit_l16": ModelSpec("ViT-L/16, SETR-PUP decoder", (256, 256), partial(setr, vit=VIT_L16, decoder=PUP)),
    "setr_mla_vit_s16": ModelSpec("ViT-S/16, SETR-MLA decoder", (256, 256), partial(setr, vit=VIT_S16, decoder=MLA)),
    "setr_mla_vit_b16": ModelSpec("ViT-B/16, SETR-MLA decoder", (256, 256), partial(setr, vit=VIT_B16, decoder=MLA)),
    "setr_mla_vit_l16": ModelSpec("ViT-L/16, SETR-MLA decoder", (256, 256), partial(setr, vit=VIT_L16, decoder=MLA)),
    "conv_setr_cup_r50_vit_b16": ModelSpec(
        "R50 (3, 4, 9) stem, ViT-B, CUP decoder with skips: TransUNet",
        (256, 256),
        partial(conv_setr, stem=R50, vit=VIT_B1, decoder=CUP),
    ),
    "conv_setr_pup_r50_vit_b16": ModelSpec(
        "R50 (3, 4, 9) stem, ViT-B, SETR-PUP decoder without skips",
        (256, 256),
        partial(conv_setr, stem=R50, vit=VIT_B1, decoder=PUP),
    ),
    "cvt_setr_pup_cvt13": ModelSpec(
        "CvT-13, keys and values at stride 1, SETR-PUP decoder",
        (256, 256),
        partial(cvt_setr, stages=CVT_13, decoder=PUP),
    ),
    "cvt_setr_pup_cvt21": ModelSpec(
        "CvT-21, keys and values at stride 1, SETR-PUP decoder",
        (256, 256),
        partial(cvt_setr, stages=CVT_21, decoder=PUP),
    ),
    "semantic_fpn": ModelSpec(
        "any pyramid encoder, Semantic FPN decoder (256 and 128 wide)",
        (512, 512),
        partial(pyramid_segmenter, decoder=SEMANTIC_FPN),
        encoder=ENCODER,
    ),
    "upernet": ModelSpec(
        "any pyramid encoder, UperNet decoder (512 wide)",
        (512, 512),
        partial(pyramid_segmenter, decoder=UPERNET),
        encoder=ENCODER,
    ),
    "semantic_fpn_narrow": ModelSpec(
        "any pyramid encoder, Semantic FPN decoder 64 wide, for a CPU",
        (128, 128),
        partial(pyramid_segmenter, decoder=SEMANTIC_FPN_SMALL),
        encoder=ENCODER,
    ),
    "setr_naive_small": ModelSpec(
        "small: ViT 128 wide, patch 8, SETR-Naive decoder",
        (64, 64),
        partial(setr, vit=VIT_SMALL, decoder=NAIVE_SMALL),
    ),
    "setr_pup_small": ModelSpec(
        "small: ViT 128 wide, patch 8, SETR-PUP decoder",
        (64, 64),
        partial(setr, vit=VIT_SMALL, decoder=PUP_SMALL),
    ),
    "setr_mla_small": ModelSpec(
        "small: ViT 128 wide, patch 8, SETR-MLA decoder",
        (64, 64),
        partial(setr, vit=VIT_SMALL, decoder=MLA_SMALL),
    ),
    "conv_setr_cup_small": ModelSpec(
        "small: two ResNet stages, ViT 128 wide, CUP decoder with skips",
        (64, 64),
        partial(conv_setr, stem=STEM_SMALL, vit=VIT_SMALL_1, decoder=CUP_SMALL),
    ),
    "conv_setr_pup_small": ModelSpec(
        "small: two ResNet stages, ViT 128 wide, SETR-PUP decoder without skips",
        (64, 64),
        partial(conv_setr, stem=STEM_SMALL, vit=VIT_SMALL_1, decoder=PUP_SMALL),
    ),
    "cvt_setr_pup_small": ModelSpec(
        "small: CvT 32, 64, 128 wide to stride 8, SETR-PUP decoder",
        (64, 64),
        partial(cvt_setr, stages=CVT_SMALL, decoder=PUP_SMALL),
    ),
}
"""Every segmentation model by name. Paper sizes first, then small ones with group norm, for a CPU and small images."""


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of segmentation models that match a shell pattern, such as `*small`."""
    return [name for name in MODELS if fnmatchcase(name, pattern)]


def model_spec(name: str) -> ModelSpec:
    """Return the row of the table.

    Raises:
        InputError: there is no such model; the message offers the nearest name.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r} is not known; {nearest(name, MODELS, 'fewpairs models')}")
    return MODELS[name]


def create_segmenter(
    name: str,
    *,
    attention: Attention | None = None,
    classes: int,
    in_channels: int = 3,
    image_size: Size | None = None,
    auxiliary: bool = False,
    pretrained: Path | str | None = None,
    drop_path: float = 0.0,
    encoder: str | None = None,
) -> Segmenter:
    """Build a segmentation model by its name in `MODELS`.

    Args:
        attention: one variant for all blocks, one per stage (CvT), or one per block; None is softmax attention, or the
            encoder's own if the model takes any encoder.
        classes: output channels (logits).
        image_size: (h, w) in pixels that the learned position table is made for; the model's default when None.
        auxiliary: add the heads for deep supervision.
        pretrained: encoder weights, see `load_segmenter`.
        drop_path: stochastic depth of the last block, rising from 0 at the first.
        encoder: for `semantic_fpn` and `upernet`, the encoder by its name in timm, see `create_pyramid`.

    Raises:
        InputError: the name is unknown, a number is out of range, the number of variants is wrong, or an encoder is
            given for a model that takes none.
        CheckpointError: see `load_pretrained`.
    """
    spec = model_spec(name)
    size = image_size or spec.image_size
    for what, value in (("classes", classes), ("in_channels", in_channels), ("image height", size[0])):
        if value < 1:
            raise InputError(f"{name}: {what}={value} must be 1 or more")
    if size[1] < 1:
        raise InputError(f"{name}: image width={size[1]} must be 1 or more")
    if not 0 <= drop_path < 1:
        raise InputError(f"{name}: drop_path={drop_path} must be from 0 to below 1")
    if encoder is not None and spec.encoder is None:
        free = ", ".join(row for row, known in MODELS.items() if known.encoder is not None)
        raise InputError(f"{name} has a fixed encoder; encoder={encoder!r} is only for {free}; leave it out")
    model = spec.build(
        SegmenterRequest(
            Softmax() if attention is None else attention,
            classes,
            in_channels,
            size,
            auxiliary,
            drop_path,
            keep_attention=attention is None,
            encoder=encoder or spec.encoder,
        )
    )
    if pretrained is not None:
        load_segmenter(model, pretrained)
    return model


def load_segmenter(model: Segmenter, source: Path | str) -> LoadReport:
    """Load pretrained weights into a segmenter: its own, or those of a classifier into its encoder.

    Raises:
        CheckpointError: see `load_pretrained`.
    """
    weights = read_weights(source)
    if isinstance(model.encoder, Pyramid) and not any(name.startswith("encoder.") for name in weights):
        return model.encoder.load(weights)
    return load_pretrained(model, weights)
