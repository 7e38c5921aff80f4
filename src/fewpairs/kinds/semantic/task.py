"""The task of semantic segmentation: loss, prediction and metric, independent of model and data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.scoring import SemanticMetric
from fewpairs.models.large_images import bands, resized_rows
from fewpairs.types import IGNORE, Scene, SemanticBatch, Size

_CLASSES = 16
"""Number of classes resized to native size at once, which limits the memory for large images."""

Outputs = Tensor | Mapping[str, Tensor | Sequence[Tensor]]
"""Logits, or `{"out": logits, "aux": [logits, ...]}`."""


class Semantic:
    """One class for each pixel, trained with the mean cross entropy over the scored pixels of a batch.

    `aux_weight` is the weight of the auxiliary head's loss: 0.4 as in PSPNet (arXiv 1612.01105).
    """

    def __init__(self, classes: Sequence[str], *, auxiliary: bool = False, aux_weight: float = 0.4) -> None:
        if isinstance(classes, str) or not 2 <= len(classes) <= IGNORE or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of 2 to {IGNORE} different names; got {classes!r}")
        if not aux_weight >= 0 or (auxiliary and aux_weight == 0):
            raise InputError(
                f"task.aux_weight={aux_weight} must be positive; use task.auxiliary=false to leave auxiliary heads out"
            )
        self.classes, self.auxiliary, self.aux_weight = tuple(classes), auxiliary, aux_weight

    @property
    def channels(self) -> int:
        """The number of the model's output channels: one for each class."""
        return len(self.classes)

    def loss(self, outputs: Outputs, batch: SemanticBatch) -> dict[str, Tensor]:
        """Compute the weighted terms by name, as float32 scalars; they are 0 for a batch without any scored pixel.

        Raises InputError if outputs and labels do not fit together, or auxiliary outputs are missing.
        """
        if isinstance(outputs, Tensor):
            return {"ce": self._cross_entropy(outputs, batch.label)}
        main, heads = outputs["out"], outputs.get("aux", ())
        if not isinstance(main, Tensor):
            raise InputError('the entry "out" of the model\'s outputs must be one tensor of logits')
        terms = {"ce": self._cross_entropy(main, batch.label)}
        if self.auxiliary and len(heads) == 0:
            raise InputError("task.auxiliary=true, but the model has no auxiliary heads: build it with auxiliary=True")
        for logits in heads:
            value = self.aux_weight * self._cross_entropy(logits, batch.label)
            terms["aux/ce"] = terms.get("aux/ce", torch.zeros_like(value)) + value
        return terms

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        self._check(logits)
        if label.shape != (len(logits), *logits.shape[-2:]):
            raise InputError(f"the model returned logits {list(logits.shape)} for labels {list(label.shape)}")
        with torch.autocast(logits.device.type, enabled=False):
            total = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum")
            return total / (label != IGNORE).sum().clamp(min=1)

    def predict(self, logits: Tensor, item: Scene) -> Tensor:
        """Convert the logits `[1 k h w]` of an image to uint8 labels `[1 H W]` at the size of its truth."""
        return self.labels(logits, (item.label.shape[0], item.label.shape[1]))

    def labels(self, logits: Tensor, size: Size) -> Tensor:
        """Convert logits `[s k h w]` to uint8 labels `[s H W]` of `size`: the most probable class, the first of equals.

        Logits are resized before the class is chosen, so that edges are smooth, a few classes at a time. Pixels with a
        non-finite output get the label `IGNORE`. Large images are labelled in bands of rows.
        """
        self._check(logits)
        rows = [self._labels(logits, size, *band) for band in bands(size)]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)

    def _labels(self, logits: Tensor, size: Size, top: int, bottom: int) -> Tensor:
        """Compute the rows of the labels from `top` to before `bottom`."""
        best: Tensor | None = None
        label = torch.zeros((len(logits), bottom - top, size[1]), dtype=torch.uint8, device=logits.device)
        broken = torch.zeros_like(label, dtype=torch.bool)
        for start in range(0, self.channels, _CLASSES):
            part = logits[:, start : start + _CLASSES].float()
            whole = part.shape[-2:] == size
            part = part[..., top:bottom, :] if whole else resized_rows(part, size, top, bottom)
            broken |= ~part.isfinite().all(dim=1)
            value, place = part.max(dim=1)
            if best is None:
                best, label = value, place.to(torch.uint8)
                continue
            better = value > best
            best = torch.where(better, value, best)
            label = torch.where(better, (place + start).to(torch.uint8), label)
        return torch.where(broken, IGNORE, label)

    def metric(self) -> SemanticMetric:
        """Create a new metric for one evaluation."""
        return SemanticMetric(self.classes)

    def _check(self, logits: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.channels:
            raise InputError(f"expected logits [s {self.channels} H W], got {list(logits.shape)}")
