"""Multi-crop views for self-distillation: two large and several small crops of an image, augmented separately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.data.pictures import as_channels
from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.types import Crops, Exemplars, Labelled, Size

_RATIOS = (3 / 4, 4 / 3)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.4, 0.4, 0.2, 0.1
_BLURRED_GLOBAL, _BLURRED_LOCAL = (1.0, 0.1), 0.5
_LEAST_BLUR = 0.1

GLOBAL_CROPS = len(_BLURRED_GLOBAL)
"""Number of crops that the teacher sees too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiCrop:
    """Crops and augmentation of the views of an image; the defaults are those of DINO (arXiv 2104.14294) on ImageNet.

    The global crops differ as in BYOL: the first is always blurred; the second is rarely blurred but may be solarised.

    Attributes:
        local_size: height and width of the local crops, in pixels.
        local_crops: number of local crops; with 0, give the global crops a range from 0.14 or so.
        global_scale: smallest and largest share of the image's area that a global crop covers.
        local_scale: the same of local crops.
        flip: probability of a left-right flip.
        jitter: probability of a change of brightness, contrast, saturation and hue.
        grey: probability of losing all colour.
        blur: largest standard deviation of the blur, in pixels of the crop; 0 switches it off.
        solarise: probability that the second global crop has its bright pixels inverted.
    """

    local_size: Size = (96, 96)
    local_crops: int = 8
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    flip: float = 0.5
    jitter: float = 0.8
    grey: float = 0.2
    blur: float = 2.0
    solarise: float = 0.2

    def __post_init__(self) -> None:
        if min(self.local_size) < 1:
            raise InputError(f"local_size={self.local_size}: give height and width in pixels")
        if self.local_crops < 0:
            raise InputError(f"local_crops={self.local_crops}: give a number, 0 for none")
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise InputError(f"{name}={(low, high)}: give two shares of the area, the smaller first, above 0 to 1")
        for name in ("flip", "jitter", "grey", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}: a probability lies between 0 and 1")
        if not (self.blur == 0 or _LEAST_BLUR <= self.blur < float("inf")):
            raise InputError(f"blur={self.blur}: give 0 (off) or at least {_LEAST_BLUR} pixels")

    def __call__(self, image: Image.Image, size: Size, rng: np.random.Generator) -> list[Image.Image]:
        """Return the views of an image in mode L or RGB: `GLOBAL_CROPS` of `size`, then the local ones."""
        views = []
        for blurred, solarised in zip(_BLURRED_GLOBAL, (0.0, self.solarise), strict=True):
            view = self._changed(cut(image, size, self.global_scale, rng), blurred, rng)
            views.append(ImageOps.solarize(view) if rng.random() < solarised else view)
        for _ in range(self.local_crops):
            views.append(self._changed(cut(image, self.local_size, self.local_scale, rng), _BLURRED_LOCAL, rng))
        return views

    def _changed(self, view: Image.Image, blurred: float, rng: np.random.Generator) -> Image.Image:
        if rng.random() < self.flip:
            view = ImageOps.mirror(view)
        if rng.random() < self.jitter:
            view = recoloured(view, rng)
        if rng.random() < self.grey:
            view = view.convert("L").convert(view.mode)
        if rng.random() < blurred and self.blur:
            view = view.filter(ImageFilter.GaussianBlur(rng.uniform(_LEAST_BLUR, self.blur)))
        return view


def cut(image: Image.Image, size: Size, scale: tuple[float, float], rng: np.random.Generator) -> Image.Image:
    """Resize a random crop to `size`; it has a random share of the area and an aspect from 3/4 to 4/3.

    Crops that do not fit are drawn again up to ten times; then the largest centred crop in that range is taken.
    """
    width, height = image.size
    for _ in range(10):
        area = rng.uniform(*scale) * width * height
        ratio = np.exp(rng.uniform(log(_RATIOS[0]), log(_RATIOS[1])))
        w, h = max(1, round(sqrt(area * ratio))), max(1, round(sqrt(area / ratio)))
        if w <= width and h <= height:
            left, top = (int(rng.integers(room, endpoint=True)) for room in (width - w, height - h))
            break
    else:
        w, h = min(width, max(1, round(height * _RATIOS[1]))), min(height, max(1, round(width / _RATIOS[0])))
        left, top = (width - w) // 2, (height - h) // 2
    box = (left, top, left + w, top + h)
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)


def recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and hue in random order; grey images only the first two."""
    changes: list[Callable[[Image.Image], Image.Image]] = [
        _enhanced(ImageEnhance.Brightness, rng.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)),
        _enhanced(ImageEnhance.Contrast, rng.uniform(1 - _CONTRAST, 1 + _CONTRAST)),
    ]
    if image.mode == "RGB":
        changes.append(_enhanced(ImageEnhance.Color, rng.uniform(1 - _SATURATION, 1 + _SATURATION)))
        changes.append(_turned(rng.uniform(-_HUE, _HUE)))
    for at in rng.permutation(len(changes)):
        image = changes[at](image)
    return image


def _enhanced(
    kind: Callable[[Image.Image], ImageEnhance._Enhance], factor: float
) -> Callable[[Image.Image], Image.Image]:
    return lambda image: kind(image).enhance(factor)


def _turned(turn: float) -> Callable[[Image.Image], Image.Image]:
    """Return a function that rotates the hue by a share of the colour circle."""

    def apply(image: Image.Image) -> Image.Image:
        hue, *others = image.convert("HSV").split()
        turned = hue.point(lambda value: round(value + 256 * turn) % 256)
        return Image.merge("HSV", (turned, *others)).convert("RGB")

    return apply


@dataclass(frozen=True, slots=True)
class Views:
    """Crops of one image, each `[c H W]` float32."""

    image: tuple[Tensor, ...]
    id: str


class MultiCropDataset(Dataset[Views]):
    """Multi-crop views of images of a source, for training without labels.

    The key of an item is `(epoch, index)` with `0 <= index < len(self)`. Seed and key decide all randomness.

    Args:
        indices: indices of the images in the source.
        view: size of the global crops, and normalisation of all crops.

    Raises:
        InputError: there are no images, or the seed is negative.
    """

    def __init__(
        self, source: LabelledSource, indices: Indices, view: LabelledView, crops: MultiCrop, *, seed: int = 0
    ) -> None:
        if not len(indices):
            raise InputError(f"{source.name}: no images to train on")
        if seed < 0:
            raise InputError(f"seed={seed}: give 0 or a positive number")
        self.source, self.indices, self.crops, self.seed = source, np.asarray(indices, np.int64), crops, seed
        self.view = view.with_channels(source.channels)
        self.channels = self.view.channels or 3

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> Views:
        epoch, index = (int(number) for number in key)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(self.indices[index])
        picture = as_channels(self.source.read(number), self.channels)
        views = self.crops(picture, self.view.size, np.random.default_rng([self.seed, epoch, index]))
        large, small = self._normalised(views[:GLOBAL_CROPS]), self._normalised(views[GLOBAL_CROPS:])
        return Views((*large, *small), self.source.id(number))

    def _normalised(self, views: Sequence[Image.Image]) -> Sequence[Tensor]:
        """Convert views of one size to `[c H W]` float32 each."""
        if not views:
            return ()
        pixels = np.stack([np.asarray(view) for view in views]).reshape(len(views), *views[0].size[::-1], self.channels)
        mean, std = (np.asarray(values, np.float32) for values in (self.view.mean, self.view.std))
        return torch.from_numpy((pixels / np.float32(255) - mean) / std).movedim(-1, 1).contiguous().unbind()


def collate_crops(samples: Sequence[Views]) -> Crops:
    """Collate samples to a batch: the first crops of all images, then the second ones, and so on."""
    crops = zip(*(sample.image for sample in samples), strict=True)
    return Crops(tuple(torch.stack(crop) for crop in crops), tuple(sample.id for sample in samples))


class ExemplarItems(Sequence[Exemplars]):
    """Evaluation items of features: first the bank, then the queries."""

    def __init__(self, bank: Sequence[Labelled], query: Sequence[Labelled]) -> None:
        self.bank, self.query = bank, query

    def __len__(self) -> int:
        return len(self.bank) + len(self.query)

    def __getitem__(self, index: int) -> Exemplars:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        known = index < len(self.bank)
        item = self.bank[index] if known else self.query[index - len(self.bank)]
        return Exemplars(item.image, item.label, item.ids, "bank" if known else "query")
