"""Detector with torchvision's heads: losses in training, boxes (and masks) in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.detector_parts import PyramidBackbone
from fewpairs.models.pyramid import Pyramid
from fewpairs.types import DetectionBatch, Detections, Objects

_TERMS = {
    "classification": "class",
    "bbox_regression": "box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_objectness": "proposal_class",
    "loss_rpn_box_reg": "proposal_box",
}
"""torchvision's names of the losses -> ours."""


class Detector(nn.Module):
    """`DetectionBatch` -> losses by name in training; images -> `Detections` of each, in its own pixels, in evaluation.

    Images are `[c H W]`, float in 0..1 or uint8, of any sizes from one pixel on. Training uses their sizes as given;
    evaluation resizes them, see `DetectorOptions.short`, and makes masks of large images on demand. Training ignores
    crowds and boxes without area. Images without objects train the background and give no box loss.

    Args:
        network: torchvision's `RetinaNet`, or a `GeneralizedRCNN`, on a `PyramidBackbone`.
        in_channels: channels of the images.
        background: number of the network's labels before those of the classes: 1 with a softmax, otherwise 0.
        masks: whether the network gives masks.
    """

    def __init__(self, network: nn.Module, *, in_channels: int, background: int, masks: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.in_channels, self.background, self.masks = in_channels, background, masks

    @property
    def backbone(self) -> PyramidBackbone:
        """Encoder and FPN."""
        found: PyramidBackbone = self.network.backbone
        return found

    @property
    def encoder(self) -> Pyramid:
        """The encoder, which may have pretrained weights."""
        return self.backbone.encoder

    def forward(self, image: DetectionBatch | Tensor | Sequence[Tensor]) -> dict[str, Tensor] | list[Detections]:
        """Return the losses `class`, `box`, and of an R-CNN `mask`, `proposal_class`, `proposal_box`: float32 means.

        In evaluation return detections, at most `DetectorOptions.detections` per image.

        Args:
            image: `DetectionBatch`; in evaluation also `[s c H W]` or a sequence of `[c H W]`.

        Raises:
            InputError: images have other channels or no pixels, the true objects are missing, or they lack masks that
                the detector needs.
        """
        images = self._checked(image)
        if self.training:
            if not isinstance(image, DetectionBatch):
                raise InputError(
                    "a detector in training needs DetectionBatch, images with their objects; call eval() first"
                )
            truth = [self._target(objects) for objects in image.objects]
            losses: dict[str, Tensor] = self.network(images, truth)
            return {_TERMS[name]: value.float() for name, value in losses.items()}
        return [self._detections(found) for found in self.network(images)]

    def layer_groups(self) -> list[list[str]]:
        """Return names of all parameters by layer, from input to output: embedding, each block, ..., FPN and heads."""
        left, root = [name for name, _ in self.named_parameters()], "network.backbone.encoder."
        groups = []
        for prefixes in self.encoder.layer_prefixes():
            starts = tuple(root + prefix for prefix in prefixes)
            groups.append([name for name in left if name.startswith(starts)])
            left = [name for name in left if not name.startswith(starts)]
        return [*filter(None, groups), left]

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters with more than one dimension that have no weight decay."""
        return {f"network.backbone.encoder.{name}" for name in self.encoder.no_weight_decay()}

    def _checked(self, image: DetectionBatch | Tensor | Sequence[Tensor]) -> list[Tensor]:
        images = list(image.images if isinstance(image, DetectionBatch) else image)
        for one in images:
            numbers = one.is_floating_point() or one.dtype == torch.uint8
            if one.ndim != 3 or one.shape[0] != self.in_channels or 0 in one.shape or not numbers:
                raise InputError(
                    f"the detector takes float or uint8 images [c H W] with c={self.in_channels} channels; got "
                    f"{list(one.shape)} {one.dtype}. The number of channels is set by in_channels when the model is "
                    "made"
                )
        if not images:
            raise InputError("the detector got no image; give at least one")
        return images

    def _target(self, objects: Objects) -> dict[str, Tensor]:
        """Convert the truth of one image to torchvision's format."""
        with_area = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1)
        kept = objects.take(~objects.crowd & with_area)
        target = {"boxes": kept.boxes.float(), "labels": kept.labels + self.background}
        if self.masks:
            if kept.masks is None:
                raise InputError(
                    "a mask detector trains on objects with masks, and these have only boxes; use faster_rcnn "
                    "or retinanet, or data with masks"
                )
            target["masks"] = kept.masks.to(torch.uint8)
        return target

    def _detections(self, found: dict[str, Tensor]) -> Detections:
        order = found["scores"].argsort(descending=True, stable=True)
        masks = found["masks"][order] if self.masks else None
        labels = found["labels"][order] - self.background
        return Detections(found["boxes"][order].float(), found["scores"][order].float(), labels, masks)
