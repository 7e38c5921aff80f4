"""Inference of a segmenter: whole images or sliding windows, several scales, and mirroring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.large_images import slide
from fewpairs.types import Size

Mode = Literal["whole", "slide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Settings of inference.

    Attributes:
        mode: `whole` gives the model the whole image; `slide` gives it windows, whose logits are averaged where they
            overlap.
        window: height and width of a window in pixels, cut to the size of a smaller image.
        stride: pixels from one window to the next, down and across; None: two thirds of the window (as
            mmsegmentation's 341 for 512).
        ratios: multiples of the image's size at which probabilities are computed and averaged.
        flip: whether to average over the mirrored image (left to right) too.
        windows: number of windows that go through the model at once.
    """

    mode: Mode = "whole"
    window: Size = (512, 512)
    stride: Size | None = None
    ratios: tuple[float, ...] = (1.0,)
    flip: bool = False
    windows: int = 4

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"inference.mode={self.mode!r}: allowed are {', '.join(get_args(Mode))}")
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and (len(value) != 2 or min(value) < 1):
                raise InputError(f"inference.{name}={list(value)}: give height and width, each at least 1 pixel")
        if any(step > side for step, side in zip(self.step, self.window, strict=True)):
            raise InputError(
                f"inference.stride={list(self.step)} is larger than inference.window={list(self.window)}, which leaves "
                "pixels between the windows unseen; make it smaller"
            )
        if not self.ratios or not all(0 < ratio < math.inf for ratio in self.ratios):
            raise InputError(
                f"inference.ratios={list(self.ratios)}: give one or more positive factors, such as [0.5, 1]"
            )
        if self.windows < 1:
            raise InputError(f"inference.windows={self.windows}: at least one window must go through the model at once")

    @property
    def step(self) -> Size:
        """The stride, with the default applied."""
        return self.stride or (max(1, 2 * self.window[0] // 3), max(1, 2 * self.window[1] // 3))

    @property
    def plain(self) -> bool:
        """Whether the image is used once, at its own size."""
        return self.ratios == (1.0,) and not self.flip


class InferenceSegmenter(nn.Module):
    """`[b c H W]` -> logits `[b k H W]` of a segmenter with the inference settings `config`.

    Averaged probabilities are returned as their logarithm, so that the most probable class has the largest logit. In
    `slide` mode the model holds tensors of `config.windows` windows; only the sum of logits grows with the image.
    """

    def __init__(self, segmenter: nn.Module, config: InferenceConfig) -> None:
        super().__init__()
        self.segmenter, self.config = segmenter, config

    def forward(self, image: Tensor) -> Tensor:
        if self.config.plain:
            return self._logits(image)
        total: Tensor | None = None
        for seen, mirrored in self._seen(image):
            logits = self._logits(seen).float()
            if logits.shape[-2:] != image.shape[-2:]:
                logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
            likely = (logits.flip(-1) if mirrored else logits).softmax(dim=1)
            total = likely if total is None else total + likely
        assert total is not None  # there is at least one ratio
        times = len(self.config.ratios) * (1 + self.config.flip)
        return (total / times).clamp(min=torch.finfo(torch.float32).tiny).log()

    def _seen(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Yield the image at every ratio and whether it is mirrored."""
        for ratio in self.config.ratios:
            size = tuple(max(1, round(side * ratio)) for side in image.shape[-2:])
            resized = image
            if size != tuple(image.shape[-2:]):
                resized = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=ratio < 1)
            yield resized, False
            if self.config.flip:
                yield resized.flip(-1), True

    def _logits(self, image: Tensor) -> Tensor:
        if self.config.mode == "whole":
            logits: Tensor = self.segmenter(image)
            return logits
        total: Tensor | None = None
        height, width = image.shape[-2:]
        for top, logits in self.bands(lambda y, x, size: image[..., y : y + size[0], x : x + size[1]], (height, width)):
            if total is None:
                total = logits.new_empty((*logits.shape[:2], *image.shape[-2:]))
            total[..., top : top + logits.shape[-2], :] = logits
        assert total is not None  # there is at least one window
        return total

    @property
    def windowed(self) -> bool:
        """Whether windows of the image at its own scale are all that the model sees."""
        return self.config.plain and self.config.mode == "slide"

    def bands(self, read: Callable[[int, int, Size], Tensor], size: Size) -> Iterator[tuple[int, Tensor]]:
        """Yield bands of logits in `slide` mode (see `large_images.slide`) of an image of `size` at its own scale.

        `read(top, left, (h, w))` returns a window of the normalised image `[b c h w]`.
        """
        sides = min(size[0], self.config.window[0]), min(size[1], self.config.window[1])

        def segment(corners: list[tuple[int, int]]) -> Tensor:
            logits: Tensor = self.segmenter(torch.cat([read(top, left, sides) for top, left in corners]))
            return logits

        yield from slide(segment, size, sides, self.config.step, at_once=self.config.windows)
