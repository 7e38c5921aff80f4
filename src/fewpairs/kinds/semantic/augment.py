"""Augmentation of images with label maps, as in mmsegmentation's training on ADE20K."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.labels import Labels
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.types import IGNORE, Size

_TRIES = 10
"""Largest number of crops that are drawn again because one class covers too much of them."""


@dataclass(frozen=True, slots=True)
class SemanticAugment:
    """Random changes of a training image, in this order.

    Attributes:
        scale: smallest and largest factor by which an image is resized in addition to the view's resizing.
        crop_share: a crop in which one class has more than this share of the scored pixels, or which has only one
            class, is drawn again, up to ten times; 1 accepts every crop.
        flip: probability of a left-right flip.
        turn: rotate by random multiples of 90 degrees and flip up-down at random, for images without a fixed upright.
        photometric: change brightness, contrast, saturation and hue, each with probability 0.5 (SSD, arXiv 1512.02325);
            only the first two apply to grey images.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    crop_share: float = 0.75
    flip: float = 0.5
    turn: bool = False
    photometric: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise InputError(f"augment.scale={list(self.scale)}: give two factors, 0 < smallest <= largest")
        if not 0 < self.crop_share <= 1:
            raise InputError(f"augment.crop_share={self.crop_share}: give a share above 0 and at most 1 (off)")
        if not 0 <= self.flip <= 1:
            raise InputError(f"augment.flip={self.flip}: give a probability between 0 and 1")


def train_sample(
    image: Image.Image,
    labels: Labels,
    view: SemanticView,
    augment: SemanticAugment | None,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Convert an image and its labels `[H W]` to `[c h w]` float32 and `[h w]` int64, both of the size of `view`.

    All random numbers come from `generator`; without `augment` the centre of the image is cropped. Images that are too
    small are padded with the mean colour, and padded pixels are not scored.
    """
    factor = 1.0 if augment is None else float(generator.uniform(*augment.scale))
    native = (image.height, image.width)
    size = view.resized(native, factor)
    pixels = view.resize(view.pixels(image), size)
    label = torch.from_numpy(labels)
    if size != native:
        label = F.interpolate(label[None, None], size=size, mode="nearest-exact")[0, 0]
    top, left = _corner(label, view.size, augment, generator)
    height, width = view.size
    pixels = pixels[:, top : top + height, left : left + width]
    label = label[top : top + height, left : left + width]
    picture = pixels.float() / 255
    if augment is not None:
        if generator.random() < augment.flip:
            picture, label = picture.flip(-1), label.flip(-1)
        if augment.turn:
            picture, label = _turned(picture, label, generator)
        if augment.photometric:
            picture = _distorted(picture, generator)
    picture = view.normalise(picture)
    below, right = height - label.shape[0], width - label.shape[1]
    if below or right:
        picture = F.pad(picture, (0, right, 0, below))
        label = F.pad(label, (0, right, 0, below), value=IGNORE)
    return picture.contiguous(), label.long().contiguous()


def _corner(
    label: Tensor, size: Size, augment: SemanticAugment | None, generator: np.random.Generator
) -> tuple[int, int]:
    """Choose the first row and column of the crop."""
    rows, columns = max(0, label.shape[0] - size[0]), max(0, label.shape[1] - size[1])
    if augment is None:
        return rows // 2, columns // 2
    top, left = _drawn(rows, columns, generator)
    if augment.crop_share < 1:
        for _ in range(_TRIES):
            counts = torch.bincount(label[top : top + size[0], left : left + size[1]].flatten())[:IGNORE]
            scored = int(counts.sum())
            if int((counts > 0).sum()) > 1 and int(counts.max()) / scored < augment.crop_share:
                break
            top, left = _drawn(rows, columns, generator)
    return top, left


def _drawn(rows: int, columns: int, generator: np.random.Generator) -> tuple[int, int]:
    return int(generator.integers(0, rows + 1)), int(generator.integers(0, columns + 1))


def _turned(picture: Tensor, label: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    if generator.random() < 0.5:
        picture, label = picture.flip(-2), label.flip(-2)
    quarters = int(generator.integers(0, 4))
    if quarters % 2 and label.shape[0] != label.shape[1]:
        quarters -= 1
    return picture.rot90(quarters, (-2, -1)), label.rot90(quarters, (-2, -1))


def _distorted(picture: Tensor, generator: np.random.Generator) -> Tensor:
    """Change brightness, contrast and colour of `[c h w]` in 0..1; contrast changes before or after colour."""
    if generator.random() < 0.5:
        picture = (picture + float(generator.uniform(-32, 32)) / 255).clamp(0, 1)
    contrast = float(generator.uniform(0.5, 1.5)) if generator.random() < 0.5 else 1.0
    first = generator.random() < 0.5
    if first:
        picture = (picture * contrast).clamp(0, 1)
    if generator.random() < 0.5 and picture.shape[0] == 3:
        picture = functional.adjust_saturation(picture, float(generator.uniform(0.5, 1.5)))
    if generator.random() < 0.5 and picture.shape[0] == 3:
        picture = functional.adjust_hue(picture, float(generator.uniform(-0.1, 0.1)))
    return picture if first else (picture * contrast).clamp(0, 1)
