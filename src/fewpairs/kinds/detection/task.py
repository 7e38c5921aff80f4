"""The task of detection: weighted losses, predictions and metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.detection.scoring import DetectionMetric
from fewpairs.types import DetectionBatch, DetectionItem, Detections

TERMS = ("class", "box", "mask", "proposal_class", "proposal_box")
"""The losses of detectors. RetinaNet has the first two, Faster R-CNN all except `mask`."""


class Detection:
    """Detection of boxes and, with `masks`, of masks.

    `weights` multiplies terms of the loss by name (`TERMS`); other terms have weight 1. `max_detections` is the number
    of best detections per class and image that the metric counts.
    """

    auxiliary = False

    def __init__(
        self,
        classes: Sequence[str],
        *,
        masks: bool = False,
        weights: Mapping[str, float] = MappingProxyType({}),
        max_detections: int = 100,
    ) -> None:
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least one; got {classes!r}")
        for name, weight in weights.items():
            if name not in TERMS:
                raise InputError(f"unknown term {name!r} of the loss; {nearest(name, TERMS)}")
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"the weight of {name} must be 0 or more, got {weight}")
        if max_detections < 1:
            raise InputError(f"max_detections={max_detections} must be at least 1")
        self.classes, self.masks, self.weights = tuple(classes), masks, dict(weights)
        self.max_detections = max_detections

    def loss(self, outputs: Mapping[str, Tensor], batch: DetectionBatch) -> dict[str, Tensor]:
        """Weigh the detector's losses by name; they are float32 scalars, and their sum is minimised.

        Raises InputError if the model returned anything else.
        """
        if not isinstance(outputs, Mapping) or not outputs:
            raise InputError(
                f"detection needs a model that returns its losses by name in training, got {type(outputs).__name__}"
            )
        return {name: self.weights.get(name, 1.0) * value for name, value in outputs.items()}

    def predict(self, outputs: Sequence[Detections], item: DetectionItem) -> list[Detections]:
        """Check and return the detections of the item's image, in its own pixels.

        Raises InputError if a detection's label is not a class, or masks are scored and missing.
        """
        for one in outputs:
            if not isinstance(one, Detections):
                raise InputError(f"detection needs a model that returns Detections, got {type(one).__name__}")
            if len(one) and not 0 <= int(one.labels.min()) <= int(one.labels.max()) < len(self.classes):
                raise InputError(
                    f"{item.id}: the model predicted class number {int(one.labels.max())}, but there are "
                    f"{len(self.classes)} classes; build the model with this number of classes"
                )
            if self.masks and one.masks is None:
                raise InputError(f"{item.id}: masks are scored, but the model predicts boxes alone; use mask_rcnn")
        return list(outputs)

    def metric(self) -> DetectionMetric:
        """Create a new metric for one evaluation."""
        return DetectionMetric(self.classes, masks=self.masks, max_detections=self.max_detections)
