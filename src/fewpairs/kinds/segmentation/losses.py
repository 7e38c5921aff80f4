"""Segmentation losses by name: weighted sums of MONAI's and PyTorch's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.errors import InputError, nearest

LossTerm = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Float32 logits and 0/1 targets, both `[b C H W]`, and pixels that count, `[b 1 H W]` 0/1 or None for all -> a scalar,
the mean over the images of a batch (terms for single pixels: over the pixels that count)."""

SMOOTH = 1.0
"""Smoothing added to numerator and denominator of overlap terms, so that images without a class give a gradient."""

LOSSES: dict[str, dict[str, float]] = {
    "bce": {"bce": 1.0},
    "dice": {"dice": 1.0},
    "bce+dice": {"bce": 1.0, "dice": 1.0},
    "ce": {"ce": 1.0},
    "dice+ce": {"dice": 1.0, "ce": 1.0},
    "focal": {"focal": 1.0},
    "dice+focal": {"dice": 1.0, "focal": 1.0},
    "tversky": {"tversky": 1.0},
    "bce+tversky": {"bce": 1.0, "tversky": 1.0},
    "jaccard": {"jaccard": 1.0},
    "bce+jaccard": {"bce": 1.0, "jaccard": 1.0},
}
"""Terms and weights of each loss. "bce" needs sigmoid outputs, "ce" exclusive classes; the others work for both."""


@dataclass(frozen=True, slots=True)
class _WeightedTerm:
    name: str
    weight: float
    function: LossTerm


class SegmentationLoss:
    """A weighted sum of terms, computed in float32.

    `exclusive` applies a softmax to `[b k+1 H W]` with the background first; otherwise every channel has its own
    sigmoid. Overlap terms (dice, jaccard, tversky) are computed for each image without the background, so the mean over
    two processes with equal batches is that of one process with both.
    """

    def __init__(self, name: str, *, exclusive: bool) -> None:
        if name not in LOSSES:
            raise InputError(f"unknown loss {name!r}; {nearest(name, LOSSES)}")
        wrong, right = ("bce", "ce") if exclusive else ("ce", "bce")
        if wrong in LOSSES[name]:
            fitting = [loss for loss, terms in LOSSES.items() if wrong not in terms]
            raise InputError(
                f"loss {name!r} does not fit {'exclusive (softmax)' if exclusive else 'overlapping (sigmoid)'} "
                f"classes: its term {wrong!r} would have to be {right!r}; choose one of {', '.join(fitting)}"
            )
        self.name = name
        self.terms = tuple(_WeightedTerm(n, w, _build(n, exclusive)) for n, w in LOSSES[name].items())

    def __call__(self, logits: Tensor, target: Tensor, known: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the weighted scalar of each term from logits and targets `[b C H W]` of equal shape.

        `known` `[b 1 H W]` is 1 at the pixels that count; None counts all. Others add nothing to sums or means.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), target.float()
            return {term.name: term.weight * term.function(logits, target, known) for term in self.terms}


def exclusive_target(mask: Tensor) -> Tensor:
    """Convert overlapping masks `[b k H W]` to one-hot targets `[b k+1 H W]` with the background first.

    Where classes overlap, the last one wins.
    """
    order = torch.arange(1, mask.shape[1] + 1, device=mask.device).view(1, -1, 1, 1)
    label = (order * (mask > 0.5)).amax(dim=1)
    return F.one_hot(label, mask.shape[1] + 1).movedim(-1, 1).to(mask.dtype)


def _build(term: str, exclusive: bool) -> LossTerm:
    from monai.losses import DiceLoss, FocalLoss, TverskyLoss

    if term == "bce":
        return _pixel_mean(F.binary_cross_entropy_with_logits)
    if term == "ce":
        return _pixel_mean(_cross_entropy)
    if term == "focal":
        return _pixel_mean(
            lambda x, y, reduction: FocalLoss(gamma=2.0, use_softmax=exclusive, reduction=reduction)(x, y)
        )
    overlap: dict[str, Any] = {"include_background": not exclusive, "smooth_nr": SMOOTH, "smooth_dr": SMOOTH}
    builders: dict[str, Callable[..., Callable[[Tensor, Tensor], Tensor]]] = {
        "dice": DiceLoss,
        "jaccard": partial(DiceLoss, jaccard=True),
        # Salehi et al. 2017: a missed voxel costs more than a superfluous one.
        "tversky": partial(TverskyLoss, alpha=0.3, beta=0.7),
    }
    whole = builders[term](sigmoid=not exclusive, softmax=exclusive, **overlap)
    shares = builders[term](**overlap)

    def overlaps(logits: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
        if known is None:
            return whole(logits, target)
        probabilities = logits.softmax(dim=1) if exclusive else logits.sigmoid()
        return shares(probabilities * known, target * known)

    return overlaps


def _cross_entropy(logits: Tensor, target: Tensor, reduction: str) -> Tensor:
    found = F.cross_entropy(logits, target.argmax(dim=1), reduction=reduction)
    return found if reduction == "mean" else found[:, None]


def _pixel_mean(function: Callable[..., Tensor]) -> LossTerm:
    """Make a term of a loss of single pixels: its mean over the pixels that count and their channels."""

    def mean(logits: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
        if known is None:
            return function(logits, target, reduction="mean")
        single = function(logits, target, reduction="none")
        return (single * known).sum() / (known.sum() * single.shape[1]).clamp(min=1)

    return mean
