"""Table of detectors by name, and the functions that put torchvision's heads on any pyramid encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fewpairs.attention import Attention
from fewpairs.errors import InputError, nearest
from fewpairs.models.detector import Detector
from fewpairs.models.detector_parts import (
    DetectorTransform,
    Float32BoxPredictor,
    Float32MaskPredictor,
    Float32RetinaNetHead,
    Float32RPNHead,
    Proposals,
    PyramidBackbone,
    StridedAlign,
    StridedAnchors,
)
from fewpairs.models.pyramid import Pyramid, create_pyramid

HeadNorm = Literal["none", "group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOptions:
    """Settings of a detector; the defaults are those of the publications on COCO."""

    short: int = 800
    """Evaluation resizes an image so that its shorter side has this many pixels ..."""
    long: int = 1333
    """... unless its longer side would have more than this."""
    width: int = 256
    """Channels of the FPN and of the heads' convolutions."""
    hidden: int = 1024
    """Width of an R-CNN's linear layers."""
    samples: int = 512
    """Boxes per image that train an R-CNN's second stage in a step; at most a quarter are objects."""
    norm: HeadNorm = "none"
    """`group`: group normalisation in FPN and heads' convolutions, which training from scratch needs (1811.08883)."""
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    """Square roots of the anchors' areas in pixels of the resized image, a tuple for each map from the finest on;
    None: 4 strides by 1, 2^(1/3) and 2^(2/3) (RetinaNet), 8 strides (R-CNN)."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Ratios of height to width."""
    score_threshold: float = 0.05
    """Detections with lower scores are dropped."""
    nms_threshold: float = 0.5
    """Of two boxes of a class with a higher IoU, the one with the lower score is dropped."""
    detections: int = 100
    """Maximum detections per image."""

    def __post_init__(self) -> None:
        for name, least in (
            ("short", 1),
            ("long", self.short),
            ("width", 2),
            ("hidden", 1),
            ("samples", 4),
            ("detections", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)} must be at least {least}")
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)} must be from 0 to 1")
        if self.norm not in get_args(HeadNorm):
            raise InputError(f"norm={self.norm!r} is not known; {nearest(str(self.norm), get_args(HeadNorm))}")
        sizes = self.anchor_sizes
        if sizes is not None and (not sizes or len({len(level) for level in sizes}) != 1 or not sizes[0]):
            raise InputError(f"anchor_sizes={sizes} must give each map the same number of sizes, at least one")
        given = [*self.anchor_ratios, *(size for level in sizes or () for size in level)]
        if not self.anchor_ratios or not all(value > 0 and math.isfinite(value) for value in given):
            raise InputError(
                f"anchor_sizes={sizes} and anchor_ratios={self.anchor_ratios} must be numbers above 0, with at least "
                "one ratio"
            )

    @property
    def norm_layer(self) -> Callable[[int], nn.Module] | None:
        """Norm of FPN and heads: up to 32 groups of at least 2 channels, so that one position is enough."""
        groups = next(count for count in (32, 16, 8, 4, 2, 1) if self.width % count == 0 and self.width >= 2 * count)
        return None if self.norm == "none" else partial(nn.GroupNorm, groups)

    def anchors(self, backbone: PyramidBackbone, scale: float, steps: int) -> StridedAnchors:
        """Return anchors for the maps of `backbone`: by default `scale` strides, in `steps` steps per octave.

        Raises:
            InputError: the options have sizes for another number of maps.
        """
        default = [[scale * stride * 2 ** (step / steps) for step in range(steps)] for stride in backbone.strides]
        sizes = default if self.anchor_sizes is None else self.anchor_sizes
        if len(sizes) != len(backbone.strides):
            raise InputError(
                f"anchor_sizes gives sizes for {len(sizes)} maps, but there are {len(backbone.strides)}, of strides "
                f"{', '.join(map(str, backbone.strides))}"
            )
        return StridedAnchors(sizes, self.anchor_ratios, backbone.strides)


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """One row of the table of detectors."""

    summary: str
    build: Callable[[Pyramid, int, int, DetectorOptions], Detector]
    """Encoder, classes, channels of the images, options -> detector."""
    levels: int
    """Maximum number of the encoder's maps used, counted from the coarsest."""
    masks: bool = False


def retinanet(encoder: Pyramid, classes: int, in_channels: int, options: DetectorOptions) -> Detector:
    """Build RetinaNet: focal loss over dense anchors on strides 8 to 128 (arXiv 1708.02002)."""
    top = LastLevelP6P7(encoder.channels[-1], options.width)
    backbone = PyramidBackbone(encoder, _fpn(encoder, options, top), extra=2)
    anchors = options.anchors(backbone, 4, 3)
    per_place = anchors.num_anchors_per_location()[0]
    network = RetinaNet(
        backbone,
        classes,
        anchor_generator=anchors,
        head=Float32RetinaNetHead(options.width, per_place, classes, norm_layer=options.norm_layer),
        score_thresh=options.score_threshold,
        nms_thresh=options.nms_threshold,
        detections_per_img=options.detections,
    )
    network.transform = _transform(in_channels, options)
    return Detector(network, in_channels=in_channels, background=0, masks=False)


def rcnn(encoder: Pyramid, classes: int, in_channels: int, options: DetectorOptions, *, masks: bool) -> Detector:
    """Build Faster or Mask R-CNN (arXiv 1506.01497, 1703.06870) with proposals on strides 4 to 64."""
    backbone = PyramidBackbone(encoder, _fpn(encoder, options, LastLevelMaxPool()), extra=1)
    anchors = options.anchors(backbone, 8, 1)
    levels, finest = [str(level) for level in range(len(encoder.strides))], encoder.strides[0]
    proposals = Proposals(
        anchors,
        Float32RPNHead(options.width, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2000, "testing": 1000},
        post_nms_top_n={"training": 2000, "testing": 1000},
        nms_thresh=0.7,
    )
    heads = RoIHeads(
        StridedAlign(levels, 7, finest),
        TwoMLPHead(options.width * 7 * 7, options.hidden),
        Float32BoxPredictor(options.hidden, classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=options.samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=options.score_threshold,
        nms_thresh=options.nms_threshold,
        detections_per_img=options.detections,
    )
    if masks:
        width = options.width
        heads.mask_roi_pool = StridedAlign(levels, 14, finest)
        heads.mask_head = MaskRCNNHeads(width, (width,) * 4, 1, norm_layer=options.norm_layer)
        heads.mask_predictor = Float32MaskPredictor(width, width, classes + 1)
    network = GeneralizedRCNN(backbone, proposals, heads, _transform(in_channels, options))
    return Detector(network, in_channels=in_channels, background=1, masks=masks)


DETECTORS: dict[str, DetectorSpec] = {
    "retinanet": DetectorSpec("RetinaNet, FPN at strides 8 to 128", retinanet, levels=3),
    "faster_rcnn": DetectorSpec("Faster R-CNN, FPN at strides 4 to 64", partial(rcnn, masks=False), levels=4),
    "mask_rcnn": DetectorSpec("Mask R-CNN, FPN at strides 4 to 64", partial(rcnn, masks=True), levels=4, masks=True),
}
"""Every detector by name; each takes any encoder of `create_pyramid`."""


def detector_spec(name: str) -> DetectorSpec:
    """Return the row of the table.

    Raises:
        InputError: there is no such detector; the message offers the nearest name.
    """
    if name not in DETECTORS:
        raise InputError(f"detector {name!r} is not known; {nearest(name, DETECTORS, 'fewpairs models')}")
    return DETECTORS[name]


def create_detector(
    name: str,
    *,
    encoder: str = "linglo_b0",
    attention: Attention | str | None = None,
    classes: int,
    in_channels: int = 3,
    drop_path: float = 0.0,
    pretrained: str | Path | bool | None = None,
    options: DetectorOptions | None = None,
) -> Detector:
    """Build a detector by its name in `DETECTORS` on an encoder by its name in timm, which knows ours too.

    Args:
        encoder, attention, drop_path, pretrained: see `create_pyramid`; weights are the encoder's.
        classes: number of object classes, without the background.

    Raises:
        InputError: a name is unknown, the encoder has no pyramid, a number is out of range, or anchors do not fit the
            maps.
        CheckpointError: weights cannot be downloaded, or do not fit.
    """
    spec = detector_spec(name)
    if classes < 1:
        raise InputError(f"{name}: classes={classes} must be 1 or more")
    pyramid = create_pyramid(
        encoder,
        attention=attention,
        in_channels=in_channels,
        drop_path=drop_path,
        levels=spec.levels,
        pretrained=pretrained,
    )
    return spec.build(pyramid, classes, in_channels, options or DetectorOptions())


def _fpn(encoder: Pyramid, options: DetectorOptions, top: nn.Module) -> FeaturePyramidNetwork:
    return FeaturePyramidNetwork(list(encoder.channels), options.width, top, norm_layer=options.norm_layer)


def _transform(in_channels: int, options: DetectorOptions) -> DetectorTransform:
    grey = [sum(IMAGENET_DEFAULT_MEAN) / 3] * in_channels, [sum(IMAGENET_DEFAULT_STD) / 3] * in_channels
    mean, std = (list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)) if in_channels == 3 else grey
    return DetectorTransform(options.short, options.long, mean, std)
