"""Classification task: loss, prediction and metric, independent of model, data set and training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.classification.scoring import ClassificationMetric
from fewpairs.types import Labelled

LossName = Literal["ce", "bce"]


class Classification:
    """Classification of images into one class each.

    `loss` is "ce", the cross entropy of the softmax, or "bce", the mean over classes of a binary cross entropy each, as
    in DeiT III (arXiv 2204.07118) and timm's `BinaryCrossEntropy`. `smoothing` is the weight of the uniform
    distribution in the truth, also for the probabilities of mixup and cutmix: mixing smoothed labels gives the same.
    """

    auxiliary = False

    def __init__(self, classes: Sequence[str], *, smoothing: float = 0.0, loss: LossName = "ce") -> None:
        if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least two; got {classes!r}")
        if not (math.isfinite(smoothing) and 0 <= smoothing < 1):
            raise InputError(f"smoothing must be a share from 0 to below 1, such as 0.1; got {smoothing}")
        if loss not in get_args(LossName):
            raise InputError(f"unknown loss {loss!r}; {nearest(str(loss), get_args(LossName))}")
        self.classes = tuple(classes)
        self.smoothing = smoothing
        self._loss = loss

    @property
    def channels(self) -> int:
        """Number of outputs of the model, one for each class."""
        return len(self.classes)

    def loss(self, outputs: Tensor, batch: Labelled) -> dict[str, Tensor]:
        """Return the mean loss of the batch by its name, in float32 for any precision of the model.

        Raises InputError if outputs and labels do not fit together.
        """
        logits, label = self._checked(outputs), batch.label
        with torch.autocast(logits.device.type, enabled=False):
            target = self._target(logits.shape, label)
            if self._loss == "ce":
                return {"ce": F.cross_entropy(logits.float(), target)}
            return {"bce": F.binary_cross_entropy_with_logits(logits.float(), target)}

    def predict(self, logits: Tensor, item: Labelled) -> Tensor:
        """Convert `[s k]` logits of images of an item to float32 for the metric."""
        return self._checked(logits).float()

    def metric(self) -> ClassificationMetric:
        """Return a new metric for one evaluation."""
        return ClassificationMetric(self.classes)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax of `[s k]` logits in float32, for either loss."""
        return self._checked(logits).float().softmax(dim=1)

    def _target(self, shape: torch.Size, label: Tensor) -> Tensor:
        """Return the truth as `[b k]` float32 probabilities."""
        if label.is_floating_point():
            if label.shape != shape:
                raise InputError(
                    f"mixed labels must be probabilities {list(shape)} (images, classes), got {list(label.shape)}"
                )
            return self._smoothed(label.float())
        if label.shape != shape[:1]:
            raise InputError(f"{shape[0]} images need as many class indices, got labels {list(label.shape)}")
        return self._smoothed(F.one_hot(label.long(), shape[1]).float())

    def _smoothed(self, truth: Tensor) -> Tensor:
        return truth * (1 - self.smoothing) + self.smoothing / truth.shape[1]

    def _checked(self, logits: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != self.channels:
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"{self.channels} classes need a model that returns logits [images, {self.channels}], got {found}"
            )
        return logits
