"""The part of a detector whose products can be counted, because it does not depend on the image content."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from fewpairs.models.detector import Detector
from fewpairs.models.padding import pad_to_multiple

PROPOSALS = 1000
"""Proposals per image that an R-CNN classifies in prediction."""

_DIVISOR = 32
"""torchvision pads height and width of batches to multiples of this."""


class CountedDetector(nn.Module):
    """Encoder, FPN and heads of a detector, run on an image `[b c H W]` of the resized size.

    RetinaNet's heads and an R-CNN's proposal head run on every position. In prediction the box head runs on 1000 boxes
    per image and the mask head on the maximum number of detections; in training they run on `DetectorOptions.samples`
    boxes and on a quarter of these. RoIAlign, sorting and suppression form no matrix products and are left out.

    The modules are shared with the detector.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        network: Any = detector.network
        self.encoder, self.decoder = detector.encoder, detector.backbone.fpn
        self.width = detector.backbone.out_channels
        self.most = self.samples = 0
        if hasattr(network, "head"):
            self.heads = nn.ModuleDict({"dense": network.head})
            return
        rois = network.roi_heads
        self.heads = nn.ModuleDict({"dense": network.rpn.head, "box": rois.box_head, "scores": rois.box_predictor})
        if rois.has_mask():
            self.heads.update({"mask": rois.mask_head, "pixels": rois.mask_predictor})
        self.most = rois.detections_per_img
        self.samples = rois.fg_bg_sampler.batch_size_per_image

    def forward(self, image: Tensor) -> list[Any]:
        """Return the outputs of each head."""
        maps = enumerate(self.encoder(pad_to_multiple(image, _DIVISOR)))
        fused = self.decoder(OrderedDict((str(level), one) for level, one in maps))
        found = [self.heads["dense"](list(fused.values()))]
        boxes, masks = (self.samples, self.samples // 4) if self.training else (PROPOSALS, self.most)
        if "box" in self.heads:
            cuts = image.new_zeros(len(image) * boxes, self.width, 7, 7)
            found.append(self.heads["scores"](self.heads["box"](cuts)))
        if "mask" in self.heads:
            cuts = image.new_zeros(len(image) * masks, self.width, 14, 14)
            found.append(self.heads["pixels"](self.heads["mask"](cuts)))
        return found
