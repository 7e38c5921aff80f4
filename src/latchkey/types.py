"""The words that every part of latchkey shares.

Dimension letters, the same in annotations, einsum patterns and docs:

    b  images in a batch          n  query positions (tokens)      c  image channels, or the width of a token
    h  heads                      m  key positions                 k  foreground classes
    d  width of one head          H, W  height and width in pixels (always in this order)
    s  slices of a scan, from its first to its last
    v  views (crops) of an image, g of them global
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
"""Height and width in pixels, in this order."""

Spacing = tuple[float, float, float]
"""Distance between neighbouring voxel centres in mm: between slices, between rows, between columns."""

Fit = Literal["resize", "pad"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the tokens of a sequence `[b n c]` lie: `prefix` tokens without a place, then `h` rows of `w` tokens."""

    h: int
    w: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """Length of the sequence, prefix included."""
        return self.prefix + self.h * self.w


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a slice of `native` size became a model input of `model` size, and how to go back.

    `resize` scales height and width independently (bilinear); `pad` keeps the pixels, centres the slice and pads what
    is missing, so `model` must be at least `native` in both directions.
    """

    native: Size
    model: Size
    fit: Fit = "resize"

    def __post_init__(self) -> None:
        if self.fit == "pad" and (self.model[0] < self.native[0] or self.model[1] < self.native[1]):
            raise ValueError(
                f"fit='pad' cannot shrink a {self.native[0]}x{self.native[1]} slice to {self.model[0]}x{self.model[1]} "
                "pixels; enlarge the model size or use fit='resize'"
            )

    @property
    def offset(self) -> Size:
        """Row and column of the native slice's first pixel inside the model input; (0, 0) for `resize`."""
        if self.fit == "resize":
            return 0, 0
        return (self.model[0] - self.native[0]) // 2, (self.model[1] - self.native[1]) // 2

    def apply(self, image: Tensor, *, mode: Literal["bilinear", "nearest"] = "bilinear", value: float = 0.0) -> Tensor:
        """`[s c H W]` at native size -> `[s c H W]` at model size; `value` fills what `pad` adds."""
        if self.native == self.model:
            return image
        if self.fit == "pad":
            (top, left), (height, width) = self.offset, self.native
            right, bottom = self.model[1] - width - left, self.model[0] - height - top
            return F.pad(image, (left, right, top, bottom), value=value)
        if mode == "nearest":
            return F.interpolate(image, size=self.model, mode="nearest-exact")
        shrinks = self.model[0] < self.native[0] or self.model[1] < self.native[1]
        return F.interpolate(image, size=self.model, mode="bilinear", align_corners=False, antialias=shrinks)

    def invert(self, logits: Tensor) -> Tensor:
        """`[s k H W]` at model size -> `[s k H W]` at native size (bilinear for `resize`, a crop for `pad`)."""
        if self.native == self.model:
            return logits
        if self.fit == "pad":
            top, left = self.offset
            return logits[..., top : top + self.native[0], left : left + self.native[1]]
        return F.interpolate(logits, size=self.native, mode="bilinear", align_corners=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    mask: Tensor
    """`[b k H W]` float32, 1 inside the organ and 0 outside; classes may overlap."""
    ids: tuple[str, ...]
    """One name an image, for messages."""

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which a copy to a GPU need not wait; PyTorch's loader calls this."""
        return Batch(self.image.pin_memory(), self.mask.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same on `device`."""
        return Batch(self.image.to(device, non_blocking=True), self.mask.to(device, non_blocking=True), self.ids)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images with a class each: a training batch, and what an evaluation step sees."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b]` int64 class indices; or `[b k]` float32 probabilities, where training has mixed images."""
    ids: tuple[str, ...]
    """One name an image, for messages and records."""

    def pin_memory(self) -> Labelled:
        """The same in page-locked memory, from which a copy to a GPU need not wait; PyTorch's loader calls this."""
        return Labelled(self.image.pin_memory(), self.label.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> Labelled:
        """The same on `device`."""
        return Labelled(self.image.to(device, non_blocking=True), self.label.to(device, non_blocking=True), self.ids)


@dataclass(frozen=True, slots=True)
class Scan:
    """What an evaluation step sees: one whole scan with its truth at native size."""

    id: str
    case: str
    """The patient: cases, not scans, are independent of each other, so splits and intervals go by case."""
    image: Tensor
    """`[s c H W]` float32, normalised, at model size."""
    mask: Tensor
    """`[s k H W]` bool, at native size."""
    spacing: Spacing
    geometry: Geometry
    slice_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crops:
    """What a step of self-distillation sees: several crops of every image, in the same order of images."""

    image: tuple[Tensor, ...]
    """The global crops first, then the local ones: each `[b c H W]` float32, normalised."""
    ids: tuple[str, ...]
    """One name an image, for messages."""

    def pin_memory(self) -> Crops:
        """The same in page-locked memory; PyTorch's loader calls this."""
        return Crops(tuple(crop.pin_memory() for crop in self.image), self.ids)

    def to(self, device: torch.device | str) -> Crops:
        """The same on `device`."""
        return Crops(tuple(crop.to(device, non_blocking=True) for crop in self.image), self.ids)


@dataclass(frozen=True, slots=True)
class Distilled:
    """What student and teacher say of the same images: `o` logits for each of `v` views, the global ones first."""

    student: Tensor
    """`[v b o]`, of all views."""
    teacher: Tensor
    """`[g b o]`, of the first `g` views, without gradient."""
    centre: Tensor
    """`[o]`, the running mean of the teacher's logits."""
    temperature: float
    """That sharpens the teacher at this step."""


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Labelled images for the evaluation of features: a `bank` to look neighbours up in, and `query` images."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b]` int64."""
    ids: tuple[str, ...]
    part: Literal["bank", "query"]
