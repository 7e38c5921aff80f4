"""Augmentation of training slices; image and mask are sampled on the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.types import Size

_CONTROL_POINTS = 6


@dataclass(frozen=True, slots=True)
class SegmentationAugment:
    """Random changes of a training slice; 0 switches one off.

    Attributes:
        flip: probability of a left-right flip; off by default, because organs lie on the left or on the right.
        rotate: largest rotation in degrees, in either direction.
        scale: largest change of size, as a fraction: 0.2 draws factors from 1/1.2 to 1.2.
        elastic: standard deviation, in pixels, of a smooth displacement (random at 6 x 6 points, bicubic between them).
        contrast: largest relative gain, and largest offset in standard deviations of the image.
        gamma: largest change of the exponent, as a fraction: 0.3 draws exponents from 1/1.3 to 1.3.
        noise: largest standard deviation of added Gaussian noise, in standard deviations of the image.
        probability: probability of each change except the flip.
    """

    flip: float = 0.0
    rotate: float = 15.0
    scale: float = 0.15
    elastic: float = 0.0
    contrast: float = 0.15
    gamma: float = 0.2
    noise: float = 0.05
    probability: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment.{name}={getattr(self, name)}: give a probability between 0 and 1")
        for name in ("rotate", "scale", "elastic", "contrast", "gamma", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"augment.{name}={getattr(self, name)}: give 0 (off) or a positive number")

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented copies of an image `[c H W]` and its mask `[k H W]` (0 or 1), both float32.

        The image is sampled bilinearly and the mask by the nearest pixel, both at the same points and reflected at the
        border.
        """
        size = (image.shape[-2], image.shape[-1])
        grid = self.grid(size, rng)
        if grid is not None:
            image = F.grid_sample(image[None], grid, "bilinear", "reflection", align_corners=False)[0]
            mask = F.grid_sample(mask[None], grid, "nearest", "reflection", align_corners=False)[0]
        return self._intensity(image, rng), mask

    def grid(self, size: Size, rng: np.random.Generator) -> Tensor | None:
        """Draw the sampling grid `[1 H W 2]` for an image of `size`, (x, y) in -1..1; None if nothing changes."""
        mirror = self.flip > 0 and rng.random() < self.flip
        angle = self._draw(rng, self.rotate) * pi / 180
        factor = (1 + self.scale) ** self._draw(rng, 1.0 if self.scale else 0.0)
        bent = self.elastic > 0 and rng.random() < self.probability
        if not (mirror or bent) and angle == 0 and factor == 1:
            return None
        height, width = size
        c, s, sign = cos(angle) / factor, sin(angle) / factor, -1.0 if mirror else 1.0
        x, y = torch.meshgrid(_centres(width), _centres(height), indexing="xy")
        turned = (sign * (c * x - s * height / width * y), s * width / height * x + c * y)
        grid = torch.stack(turned, dim=-1)[None]
        if bent:
            points = torch.from_numpy(rng.normal(0.0, self.elastic, (1, 2, _CONTROL_POINTS, _CONTROL_POINTS)))
            shift = F.interpolate(points.float(), size=size, mode="bicubic", align_corners=True)
            grid = grid + shift.permute(0, 2, 3, 1) * torch.tensor([2.0 / width, 2.0 / height])
        return grid

    def _draw(self, rng: np.random.Generator, largest: float) -> float:
        """Draw uniformly from -largest..largest with the given probability; otherwise return 0."""
        if largest == 0 or rng.random() >= self.probability:
            return 0.0
        return float(rng.uniform(-largest, largest))

    def _intensity(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        gain, offset = self._draw(rng, self.contrast), self._draw(rng, self.contrast)
        exponent = (1 + self.gamma) ** self._draw(rng, 1.0 if self.gamma else 0.0)
        noise = abs(self._draw(rng, self.noise))
        if gain == offset == noise == 0 and exponent == 1:
            return image
        deviation = float(image.std(correction=0))
        if exponent != 1:
            low, high = float(image.min()), float(image.max())
            if high > low:
                image = ((image - low) / (high - low)).pow(exponent) * (high - low) + low
        image = image * (1 + gain) + offset * deviation
        if noise:
            drawn = rng.standard_normal(tuple(image.shape), dtype=np.float32)
            image = image + torch.from_numpy(drawn) * (noise * deviation)
        return image


def _centres(length: int) -> Tensor:
    """Pixel centres along one direction, in -1..1 from border to border."""
    return (2 * torch.arange(length, dtype=torch.float32) + 1) / length - 1
