"""View and augmentation of images for detectors, with one transform for image, boxes and masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from fewpairs.data.pictures import as_channels
from fewpairs.errors import InputError
from fewpairs.types import Objects, Size


@dataclass(frozen=True, slots=True)
class DetectionView:
    """The size of images in training and evaluation; their aspect ratio is kept.

    Attributes:
        short: shorter side in pixels, used in evaluation and, unless `augment.sizes` draws one, in training.
        long: largest longer side in pixels; if needed, the shorter side is reduced to keep it.
        channels: 1 (grey) or 3 (colour), to which every image is converted.
    """

    short: int = 800
    long: int = 1333
    channels: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        if self.short < 1 or self.long < self.short:
            raise InputError(
                f"view.short={self.short}, view.long={self.long}: give at least 1 pixel for the shorter side, and at "
                "least as many for the longer side"
            )
        if self.channels not in (1, 3):
            raise InputError(f"view.channels={self.channels}: allowed are 1 (grey) and 3 (colour)")

    def scaled(self, size: Size, short: int | None = None) -> Size:
        """Return the size (h, w) to which an image of `size` is resized; `short` replaces the view's shorter side."""
        factor = min((short or self.short) / min(size), self.long / max(size))
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    def pixels(self, image: Image.Image) -> Tensor:
        """Convert an image to `[c H W]` uint8 at its own size."""
        converted: Tensor = functional.pil_to_tensor(as_channels(image, self.channels))
        return converted


@dataclass(frozen=True, slots=True)
class DetectionAugment:
    """Random changes of a training image with its boxes and masks; 0 and None switch one off.

    Attributes:
        sizes: smallest and largest shorter side of multi-scale training, drawn in steps of `step`; (480, 800) is common
            for COCO. None uses the view's.
        step: distance between the sizes that can be drawn, in pixels.
        flip: probability of a left-right flip.
        vertical_flip: probability of an upside-down flip, for images without an upright orientation.
        jitter: range of factors of large-scale jitter (0.1 to 2 in arXiv 2012.07177): the image is scaled by a random
            factor of the size that fits into `crop`, and a random window of at most `crop` is cut out. It replaces
            `sizes`.
        crop: height and width of that window.
        visible: share of a box's area that must remain after a crop; otherwise the object is removed.
        brightness, contrast, saturation: largest change, as a fraction.
        hue: largest change, as a fraction of the colour circle, at most 0.5.
    """

    sizes: tuple[int, int] | None = None
    step: int = 32
    flip: float = 0.5
    vertical_flip: float = 0.0
    jitter: tuple[float, float] | None = None
    crop: Size = (1024, 1024)
    visible: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sizes", "jitter", "crop"):
            pair = getattr(self, name)
            if pair is None:
                continue
            object.__setattr__(self, name, tuple(pair))
            if len(pair) != 2 or not all(math.isfinite(value) and value > 0 for value in pair):
                raise InputError(f"augment.{name}={list(pair)}: give two positive numbers")
            if name != "crop" and pair[0] > pair[1]:
                raise InputError(f"augment.{name}={list(pair)}: give the smallest value first")
        if self.step < 1:
            raise InputError(f"augment.step={self.step}: give at least 1 pixel")
        for name, most in (("flip", 1.0), ("vertical_flip", 1.0), ("visible", 1.0), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"augment.{name}={getattr(self, name)}: allowed is 0 to {most:g}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"augment.{name}={getattr(self, name)}: give 0 (off) or a positive number")

    @property
    def shorter(self) -> tuple[int, ...]:
        """The shorter sides that can be drawn; empty to use the view's."""
        return () if self.sizes is None else tuple(range(self.sizes[0], self.sizes[1] + 1, self.step))


@dataclass(frozen=True, slots=True)
class AugmentedImage:
    """A training image after view and augmentation."""

    image: Tensor
    """`[c H W]` float32 in 0..1."""
    objects: Objects
    cut: int
    """Number of objects that a crop removed."""


def augmented(
    pixels: Tensor, objects: Objects, view: DetectionView, augment: DetectionAugment | None
) -> AugmentedImage:
    """Make a training image from pixels `[c H W]` uint8 and objects, with PyTorch's global random generator.

    Boxes stay inside the image and keep an area; only a crop removes objects. `Objects.area` is scaled like the box.
    """
    size = (pixels.shape[-2], pixels.shape[-1])
    image = tv_tensors.Image(pixels)
    boxes = tv_tensors.BoundingBoxes(objects.boxes, format="XYXY", canvas_size=size)
    masks = None if objects.masks is None else tv_tensors.Mask(objects.masks)
    parts = [image, boxes] if masks is None else [image, boxes, masks]
    augment = augment or DetectionAugment(flip=0.0)
    target, window = _window(size, view, augment)
    if target != size:
        parts = [functional.resize(part, list(target), antialias=True) for part in parts]
    whole = parts[1].as_subclass(Tensor)
    if window is not None:
        parts = [functional.crop(part, *window) for part in parts]
    if augment.flip and torch.rand(()) < augment.flip:
        parts = [functional.horizontal_flip(part) for part in parts]
    if augment.vertical_flip and torch.rand(()) < augment.vertical_flip:
        parts = [functional.vertical_flip(part) for part in parts]
    colour = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    if any(colour):
        parts[0] = v2.ColorJitter(*colour)(parts[0])
    shown: Tensor = functional.to_dtype(parts[0], torch.float32, scale=True).as_subclass(Tensor)
    found = _clamped(parts[1].as_subclass(Tensor), (shown.shape[-2], shown.shape[-1]))
    outlines = None if masks is None else parts[2].as_subclass(Tensor)
    kept = _kept(found, whole, outlines, augment) if window is not None else torch.ones(len(objects), dtype=torch.bool)
    area = objects.area * _areas(found) / _areas(objects.boxes).clamp(min=torch.finfo(torch.float32).tiny)
    changed = Objects(found, objects.labels, outlines, objects.crowd, area)
    return AugmentedImage(shown, changed.take(kept), int((~kept).sum()))


def _window(
    size: Size, view: DetectionView, augment: DetectionAugment
) -> tuple[Size, tuple[int, int, int, int] | None]:
    """Draw the size to resize to and the window to crop afterwards (top, left, height, width), or None for no crop."""
    if augment.jitter is None:
        sides = augment.shorter
        return view.scaled(size, sides[int(torch.randint(len(sides), ()))] if sides else None), None
    low, high = augment.jitter
    factor = low + (high - low) * float(torch.rand(()))
    factor *= min(augment.crop[0] / size[0], augment.crop[1] / size[1])
    target = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    height, width = min(target[0], augment.crop[0]), min(target[1], augment.crop[1])
    if (height, width) == target:
        return target, None
    top = int(torch.randint(target[0] - height + 1, ()))
    left = int(torch.randint(target[1] - width + 1, ()))
    return target, (top, left, height, width)


def _kept(boxes: Tensor, whole: Tensor, masks: Tensor | None, augment: DetectionAugment) -> Tensor:
    """Return `[o]` bool: objects that remain after a crop, with enough of the box and at least one mask pixel."""
    left = _areas(boxes)
    kept = (left > 0) & (left >= augment.visible * _areas(whole))
    return kept if masks is None else kept & masks.flatten(1).any(dim=1)


def _clamped(boxes: Tensor, size: Size) -> Tensor:
    limit = torch.tensor([size[1], size[0], size[1], size[0]], dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
