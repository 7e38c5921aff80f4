"""Deterministic conversion of images to model inputs: resizing with the aspect ratio kept, and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from fewpairs.data.normalisation import check_normalisation, complete_normalisation
from fewpairs.data.pictures import as_channels
from fewpairs.errors import InputError
from fewpairs.types import Size


@dataclass(frozen=True, slots=True)
class SemanticView:
    """The settings of the model input of an image.

    Attributes:
        size: height and width in pixels of a training crop of the resized image.
        short, long: images are resized, with their aspect ratio kept, until the shorter side has `short` pixels or the
            longer one `long`, whichever is smaller (mmsegmentation's (2048, 512) for ADE20K). If `short` is None,
            images keep their size and `long` has no effect.
        channels: 1 (grey) or 3 (colour), to which every image is converted; None uses the channels of the data set.
        mean, std: normalisation of each channel in 0..1; None uses those of ImageNet, averaged for grey images.
    """

    size: Size = (512, 512)
    short: int | None = 512
    long: int = 2048
    channels: Literal[1, 3] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or any(length < 1 for length in self.size):
            raise InputError(f"view.size={list(self.size)}: give height and width, each at least 1 pixel")
        if self.short is not None and not 1 <= self.short <= self.long:
            raise InputError(
                f"view.short={self.short}, view.long={self.long}: give at least 1 pixel for the shorter side, and at "
                "least as many for the longer side"
            )
        mean, std = check_normalisation(self.channels, self.mean, self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def with_channels(self, channels: int) -> SemanticView:
        """Return the view with all settings filled in for a data set of `channels` channels.

        Raises:
            InputError: mean or std have another number of channels.
        """
        number, mean, std = complete_normalisation(self.channels, self.mean, self.std, stored=channels)
        return SemanticView(self.size, self.short, self.long, number, mean, std)

    def resized(self, native: Size, factor: float = 1.0) -> Size:
        """Return the size to which an image of `native` size is resized; `factor` scales it and both limits."""
        scale = factor
        if self.short is not None:
            scale *= min(self.short / min(native), self.long / max(native))
        return max(1, int(native[0] * scale + 0.5)), max(1, int(native[1] * scale + 0.5))

    def pixels(self, image: Image.Image) -> Tensor:
        """Convert an image in mode L or RGB to `[c H W]` uint8 with the channels of the view, at its own size."""
        pixels: Tensor = functional.pil_to_tensor(as_channels(image, self.with_channels(3).channels or 3))
        return pixels

    def resize(self, pixels: Tensor, size: Size) -> Tensor:
        """Resize `[c H W]` bilinearly, with antialiasing if it shrinks."""
        resized: Tensor = functional.resize(pixels, list(size), antialias=True)
        return resized

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise `[c H W]`, uint8 or float in 0..1, to float32."""
        view = self.with_channels(image.shape[0])
        if not image.is_floating_point():
            image = image.float() / 255
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (view.mean, view.std))
        return (image - mean) / std

    def apply(self, image: Image.Image) -> Tensor:
        """Convert an image to the model input `[c h w]` float32 of an evaluation."""
        return self.normalise(self.resize(self.pixels(image), self.resized((image.height, image.width))))
