"""The task of segmenting scans with multi-label masks: loss, prediction and metric, independent of model and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.losses import SegmentationLoss, exclusive_target
from fewpairs.kinds.segmentation.scoring import SegmentationMetric
from fewpairs.models.large_images import bands, is_large, resized_rows
from fewpairs.types import Geometry, Scan, SegmentationBatch

Outputs = Tensor | Mapping[str, Tensor | Sequence[Tensor]]
"""Logits `[b C H W]`, or {"out": logits, "aux": [logits, ...]} all of the input's height and width."""

_SLICES = 32
"""Number of slices resized to native size at once, which limits the memory of a prediction."""


class Segmentation:
    """Foreground classes that may overlap (one sigmoid each) or, with `exclusive`, one class for each pixel (softmax).

    `loss` is a name in `LOSSES`; None uses "bce+dice", or "dice+ce" with `exclusive`. `threshold` is the probability
    above which a pixel belongs to a class; with `exclusive` the most probable class wins and no threshold applies.
    `auxiliary` uses the model's auxiliary outputs in training; each of them adds its loss times `aux_weight` (0.4 as in
    SETR). `surface` and `rule` are passed to the metric. With `ignores`, masks are -1 where nothing is trained.

    With `exclusive`, a pixel of several classes is trained as the last of them (see `exclusive_target`). The truth in
    the metric keeps its overlaps, so such pixels count as missed for the other classes.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        loss: str | None = None,
        exclusive: bool = False,
        threshold: float = 0.5,
        auxiliary: bool = False,
        aux_weight: float = 0.4,
        surface: bool = True,
        rule: EmptyRule = EmptyRule.STRICT,
        ignores: bool = False,
    ) -> None:
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least one; got {classes!r}")
        if not 0 < threshold < 1:
            raise InputError(f"threshold must be a probability between 0 and 1, got {threshold}")
        if exclusive and threshold != 0.5:
            raise InputError(
                f"threshold={threshold} has no meaning for exclusive classes, where the most probable one wins; "
                "leave it out or set exclusive=False"
            )
        if not aux_weight >= 0 or (auxiliary and aux_weight == 0):
            raise InputError(f"aux_weight must be positive, got {aux_weight}; use auxiliary=False to switch it off")
        self.classes = tuple(classes)
        self.exclusive = exclusive
        self.threshold = threshold
        self.auxiliary = auxiliary
        self.aux_weight = aux_weight
        self.surface, self.ignores = surface, ignores
        self.rule = EmptyRule(rule)
        self._loss = SegmentationLoss(loss or ("dice+ce" if exclusive else "bce+dice"), exclusive=exclusive)

    @property
    def channels(self) -> int:
        """The number of the model's output channels: k, or k + 1 (background first) if classes are exclusive."""
        return len(self.classes) + int(self.exclusive)

    def loss(self, outputs: Outputs, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Compute the weighted terms of the loss by name, as float32 scalars whose sum is minimised.

        Auxiliary outputs give terms "aux/<name>". Raises InputError if logits and masks do not fit together, or if
        `auxiliary` is set and the model has no auxiliary outputs.
        """
        known = (batch.mask[:, :1] >= 0).float() if self.ignores else None
        mask = batch.mask.clamp(min=0) if self.ignores else batch.mask
        target = exclusive_target(mask) if self.exclusive else mask
        if isinstance(outputs, Tensor):
            return self._loss(self._checked(outputs, target), target, known)
        terms = self._loss(self._checked(_tensor(outputs["out"]), target), target, known)
        heads = outputs.get("aux", ())
        if self.auxiliary and len(heads) == 0:
            raise InputError("auxiliary=True, but the model has no auxiliary heads: build it with auxiliary=True too")
        for logits in heads:
            for name, value in self._loss(self._checked(logits, target), target, known).items():
                key = f"aux/{name}"
                terms[key] = terms.get(key, 0.0) + self.aux_weight * value
        return terms

    def probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits `[s C H W]` to float32 probabilities `[s k H W]` of the foreground classes."""
        self._check_channels(logits)
        if self.exclusive:
            return logits.float().softmax(dim=1)[:, 1:]
        return logits.float().sigmoid()

    def predict(self, logits: Tensor, scan: Scan) -> Tensor:
        """Convert the logits `[s C H W]` of a scan to bool masks `[s k H W]` at its native size. See `masks`."""
        return self.masks(logits, scan.geometry)

    def masks(self, logits: Tensor, geometry: Geometry) -> Tensor:
        """Convert logits `[s C H W]` at model size to bool masks `[s k H W]` at native size.

        Logits are resized before they are thresholded, so that edges are smooth. This runs on the device of the logits,
        a few slices at a time.
        """
        self._check_channels(logits)
        if tuple(logits.shape[-2:]) != tuple(geometry.model):
            raise InputError(
                f"logits are {logits.shape[-2]}x{logits.shape[-1]} pixels, but the slices were given to the model at "
                f"{geometry.model[0]}x{geometry.model[1]}"
            )
        at_once = 1 if is_large(geometry.native) else _SLICES
        return torch.cat([self._masks(part.float(), geometry) for part in logits.split(at_once)])

    def _masks(self, logits: Tensor, geometry: Geometry) -> Tensor:
        """Invert the geometry and decide, in bands of rows where the slices are large."""
        if geometry.fit == "pad" or geometry.native == geometry.model or not is_large(geometry.native):
            return self.decided(geometry.invert(logits))
        rows = (resized_rows(logits, geometry.native, *band) for band in bands(geometry.native))
        return torch.cat([self.decided(one) for one in rows], dim=-2)

    def metric(self) -> SegmentationMetric:
        """Create a new metric for one evaluation."""
        return SegmentationMetric(self.classes, rule=self.rule, surface=self.surface)

    def decided(self, logits: Tensor) -> Tensor:
        """Convert logits `[s C H W]` at native size to bool masks `[s k H W]`."""
        probabilities = self.probabilities(logits)
        if not self.exclusive:
            return probabilities > self.threshold
        winner = logits.argmax(dim=1, keepdim=True)
        return winner == torch.arange(1, self.channels, device=logits.device).view(1, -1, 1, 1)

    def _check_channels(self, logits: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.channels:
            raise InputError(f"expected logits [s {self.channels} H W], got {list(logits.shape)}")

    def _checked(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape != target.shape:
            raise InputError(
                f"the model returned logits {list(logits.shape)} for masks that need {list(target.shape)} "
                f"(batch, channels, height, width); {len(self.classes)} classes need a model with {self.channels} "
                "output channels that keeps height and width"
            )
        return logits


def _tensor(value: Tensor | Sequence[Tensor]) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError('the entry "out" of the model\'s outputs must be one tensor of logits')
    return value
