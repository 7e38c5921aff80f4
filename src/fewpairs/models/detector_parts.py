"""Parts of torchvision's detectors with changes: any pyramid encoder, known strides, and outputs in float32.

Heads, anchors, proposals, RoIAlign, non-maximum suppression and the FPN are torchvision's; each class of this module
says which step it changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from fewpairs.models.large_images import is_large, shrunk
from fewpairs.models.pasted_masks import PastedMasks
from fewpairs.models.pyramid import Pyramid
from fewpairs.types import Size

_PASTED = 16
"""Number of masks resized to the image's size at once; it bounds the memory of a prediction."""


class PyramidBackbone(nn.Module):
    """Image `[b c H W]` -> maps `[b width ceil(H / strides[i]) ceil(W / strides[i])]` by name, finest first.

    The encoder's maps go through the FPN (arXiv 1612.03144), whose extra block adds `extra` coarser ones.
    """

    def __init__(self, encoder: Pyramid, fpn: FeaturePyramidNetwork, *, extra: int) -> None:
        super().__init__()
        self.encoder, self.fpn = encoder, fpn
        self.out_channels: int = fpn.layer_blocks[0][0].out_channels
        last = encoder.strides[-1]
        self.strides = (*encoder.strides, *(last * 2**step for step in range(1, extra + 1)))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = enumerate(self.encoder(image))
        found: dict[str, Tensor] = self.fpn(OrderedDict((str(level), one) for level, one in maps))
        return found


class DetectorTransform(GeneralizedRCNNTransform):
    """Normalise and pad a batch, and resize images in evaluation; training images have their size already.

    Sides are rounded to whole pixels (at least one) and shrunk with antialiasing, as training images are. Large images
    are normalised and shrunk in bands of rows. Masks are pasted and thresholded a few at a time, those of large images
    on demand.
    """

    def normalize(self, image: Tensor) -> Tensor:
        """Normalise an image, float in 0..1 or uint8, unless `resize` does so in bands."""
        return image if self._in_bands(image) else self._normalised(image)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        if self.training:
            return image, target
        native = image.shape[-2], image.shape[-1]
        scale = self._scale(native)
        size = max(1, round(native[0] * scale)), max(1, round(native[1] * scale))
        if self._in_bands(image):
            image = shrunk(lambda top, bottom: self._normalised(image[:, top:bottom])[None], native, size)[0]
        elif size != native:
            image = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=scale < 1)[0]
        return image, target

    def _scale(self, size: Size) -> float:
        return float(min(self.min_size[-1] / min(size), self.max_size / max(size)))

    def _in_bands(self, image: Tensor) -> bool:
        """Return whether an image is large and shrunk."""
        size = image.shape[-2], image.shape[-1]
        return not self.training and is_large(size) and self._scale(size) < 1

    def _normalised(self, image: Tensor) -> Tensor:
        normalised: Tensor = super().normalize(image.float() / 255 if image.dtype == torch.uint8 else image)
        return normalised

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[Any], original_image_sizes: list[Any]
    ) -> list[dict[str, Tensor]]:
        """Return boxes in pixels of the original image, and masks `[o H W]` bool of its size (see `PastedMasks`)."""
        if self.training:
            return result
        for found, shape, native in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], shape, native)
            if "masks" in found and is_large(native):
                masks: Any = PastedMasks(found["masks"], found["boxes"], tuple(native))
                found["masks"] = masks
            elif "masks" in found:
                parts = zip(found["masks"].split(_PASTED), found["boxes"].split(_PASTED), strict=True)
                pasted = [paste_masks_in_image(mask, box, native)[:, 0] > 0.5 for mask, box in parts]
                empty = found["boxes"].new_zeros(0, *native, dtype=torch.bool)
                found["masks"] = torch.cat([empty, *pasted])
        return result


class StridedAnchors(AnchorGenerator):
    """Anchors at the maps' strides, which torchvision computes from sizes and gets wrong for small, rounded maps.

    They are in float32 for any precision of the maps.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__(tuple(map(tuple, sizes)), (tuple(ratios),) * len(sizes))
        self.strides = tuple(strides)

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(stride, device=device)] * 2 for stride in self.strides]
        every = torch.cat(self.grid_anchors([list(one.shape[-2:]) for one in feature_maps], steps))
        return [every for _ in image_list.image_sizes]


class StridedAlign(MultiScaleRoIAlign):
    """RoIAlign on maps of a known first stride; torchvision's estimates it from the images' sizes without padding."""

    def __init__(self, levels: Sequence[str], size: int, stride: int) -> None:
        super().__init__(list(levels), size, sampling_ratio=2)
        self.stride = stride

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[Any]) -> Tensor:
        height, width = x[self.featmap_names[0]].shape[-2:]
        return super().forward(x, boxes, [(height * self.stride, width * self.stride)] * len(image_shapes))


class Proposals(RegionProposalNetwork):
    """Proposals with at least one per image: the whole image if there is no other.

    Without it, losses of the second stage could be means over nothing.
    """

    def filter_proposals(
        self, proposals: Tensor, objectness: Tensor, image_shapes: list[Any], num_anchors_per_level: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        boxes, scores = super().filter_proposals(proposals, objectness, image_shapes, num_anchors_per_level)
        for index, (height, width) in enumerate(image_shapes):
            if len(boxes[index]) == 0:
                boxes[index] = proposals.new_tensor([[0.0, 0.0, width, height]])
                scores[index] = proposals.new_zeros(1)
        return boxes, scores


class Float32RetinaNetHead(RetinaNetHead):
    """RetinaNet head with float32 outputs, so that a lower precision of the convolutions does not affect boxes."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        return {name: value.float() for name, value in super().forward(x).items()}


class Float32RPNHead(RPNHead):
    """As `Float32RetinaNetHead`."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [one.float() for one in objectness], [one.float() for one in deltas]


class Float32BoxPredictor(FastRCNNPredictor):
    """As `Float32RetinaNetHead`."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()


class Float32MaskPredictor(MaskRCNNPredictor):
    """As `Float32RetinaNetHead`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()
