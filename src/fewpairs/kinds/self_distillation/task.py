"""Self-distillation without labels (DINO, arXiv 2104.14294): the student predicts the teacher on other views."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import einsum
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.self_distillation.features import NeighbourMetric
from fewpairs.types import Crops, DistillationOutputs, Exemplars


class SelfDistillation:
    """Cross-entropy between the teacher's distribution over the head's outputs and the student's, over pairs of views.

    The model centres and sharpens the teacher's logits (`DistillationOutputs`). Features are scored by their nearest
    neighbours, see `NeighbourMetric`.

    Args:
        classes: names of the labels of the images that features are scored on.
        temperature: divides the student's logits.
        neighbours: how many of them vote on a query.
    """

    auxiliary = False

    def __init__(self, classes: Sequence[str], *, temperature: float = 0.1, neighbours: int = 20) -> None:
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature={temperature}: a temperature is positive")
        self.classes = tuple(classes)
        self.temperature = temperature
        self.neighbours = neighbours
        self.metric()

    def loss(self, outputs: DistillationOutputs, batch: Crops) -> dict[str, Tensor]:
        """Equation 3 of the paper, as a mean over pairs of views and over images, in float32.

        The cross-entropy comes in the two terms that tell a collapse (section 5.3): the teacher's `entropy`, which has
        no gradient, and the `divergence` of the student from it. An entropy that goes to 0, or that stays at the
        logarithm of the number of outputs, together with no divergence, means that all images look alike to the model.

        Raises:
            InputError: no pair of different views, or views of other images than the batch's.
        """
        views, images = outputs.student.shape[:2]
        seen = outputs.teacher.shape[0]
        pairs = seen * views - seen
        if pairs < 1 or seen > views:
            raise InputError(
                f"the loss compares different views of an image; the student saw {views} and the teacher {seen}"
            )
        if images != len(batch.ids):
            raise InputError(f"the model returned views of {images} images for a batch of {len(batch.ids)}")
        with torch.autocast(outputs.student.device.type, enabled=False):
            student = (outputs.student.float() / self.temperature).log_softmax(dim=-1)
            centred = (outputs.teacher.float() - outputs.centre.float()) / outputs.temperature
            teacher = centred.softmax(dim=-1).detach()
            crossed = einsum(teacher, student, "g b o, v b o -> g v") / -images
            # The first views are the teacher's own: a view is not compared with itself.
            crossed = crossed.sum() - crossed.diagonal().sum()
            entropy = -(teacher * centred.log_softmax(dim=-1).detach()).sum(dim=-1).mean()
            return {"entropy": entropy, "divergence": crossed / pairs - entropy}

    def predict(self, features: Tensor, item: Exemplars) -> Tensor:
        """`[s c]` features -> the same as unit vectors, in float16."""
        return torch.nn.functional.normalize(features.float(), dim=-1).half()

    def metric(self) -> NeighbourMetric:
        """A fresh metric for one evaluation."""
        return NeighbourMetric(self.classes, neighbours=self.neighbours)
