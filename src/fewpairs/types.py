"""The words that every part of fewpairs shares.

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


@dataclass(frozen=True, slots=True)
class Objects:
    """The truth of one image for detection: `o` objects, none of them is allowed.

    Errors: `ValueError` where the lengths differ, where boxes are not `[o 4]` or masks are not `[o H W]`.
    """

    boxes: Tensor
    """`[o 4]` float32: left, top, right, bottom in pixels of the image given with it; right and bottom lie outside."""
    labels: Tensor
    """`[o]` int64, 0..k-1, the index into the class names."""
    masks: Tensor | None
    """`[o H W]` bool or uint8, 1 inside; None where the truth is boxes alone."""
    crowd: Tensor
    """`[o]` bool: a region of many objects, never learned, and neither a hit nor a miss at scoring."""
    area: Tensor
    """`[o]` float32, px^2 as the annotation gives it, which decides the range of size at scoring."""

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes are [o 4], not {list(self.boxes.shape)}")
        if self.masks is not None and self.masks.ndim != 3:
            raise ValueError(f"masks are [o H W], not {list(self.masks.shape)}")
        parts = {"labels": self.labels, "masks": self.masks, "crowd": self.crowd, "area": self.area}
        _same_length("objects", len(self.boxes), parts)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls, size: Size | None = None) -> Objects:
        """The truth of an image without any object; with `[0 H W]` masks where `size` is given."""
        masks = None if size is None else torch.zeros(0, *size, dtype=torch.bool)
        empty = torch.zeros(0)
        return cls(torch.zeros(0, 4), empty.long(), masks, empty.bool(), empty)

    def take(self, which: Tensor) -> Objects:
        """The objects that `which` selects, a bool mask `[o]` or indices `[p]`."""
        masks = None if self.masks is None else self.masks[which]
        return Objects(self.boxes[which], self.labels[which], masks, self.crowd[which], self.area[which])

    def pin_memory(self) -> Objects:
        """The same in page-locked memory."""
        masks = None if self.masks is None else self.masks.pin_memory()
        parts = (part.pin_memory() for part in (self.crowd, self.area))
        return Objects(self.boxes.pin_memory(), self.labels.pin_memory(), masks, *parts)

    def to(self, device: torch.device | str) -> Objects:
        """The same on `device`."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        boxes, labels = self.boxes.to(device, non_blocking=True), self.labels.to(device, non_blocking=True)
        parts = (part.to(device, non_blocking=True) for part in (self.crowd, self.area))
        return Objects(boxes, labels, masks, *parts)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a training step of a detector sees: images of their own sizes with their objects.

    Errors: `ValueError` where images, objects and ids are not as many.
    """

    images: tuple[Tensor, ...]
    """Each `[c H W]` float32 in 0..1; the model normalises."""
    objects: tuple[Objects, ...]
    """One an image, in its pixels."""
    ids: tuple[str, ...]
    """One name an image, for messages."""

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.objects) == len(self.ids):
            raise ValueError(
                f"{len(self.images)} images, {len(self.objects)} truths and {len(self.ids)} ids: not equal"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image(self) -> Pictures:
        """What the model is called with: the images and, because a detector gives its losses itself, the truth."""
        return self

    def pin_memory(self) -> Pictures:
        """The same in page-locked memory, from which a copy to a GPU need not wait; PyTorch's loader calls this."""
        objects = tuple(one.pin_memory() for one in self.objects)
        return Pictures(tuple(image.pin_memory() for image in self.images), objects, self.ids)

    def to(self, device: torch.device | str) -> Pictures:
        """The same on `device`."""
        images = tuple(image.to(device, non_blocking=True) for image in self.images)
        return Pictures(images, tuple(one.to(device) for one in self.objects), self.ids)


@dataclass(frozen=True, slots=True)
class Picture:
    """What an evaluation step of a detector sees: one image at its own size, with its truth in the same pixels."""

    image: Tensor
    """`[1 c H W]` float32 in 0..1."""
    id: str
    """The name of the file inside its folder."""
    objects: Objects


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector says of one image, in that image's pixels, the highest score first.

    Errors: `ValueError` where the lengths differ, where boxes are not `[o 4]` or masks are not `[o H W]`.
    """

    boxes: Tensor
    """`[o 4]` float32: left, top, right, bottom in pixels; right and bottom lie outside."""
    scores: Tensor
    """`[o]` float32, 0..1, falling."""
    labels: Tensor
    """`[o]` int64, 0..k-1."""
    masks: Tensor | None = None
    """`[o H W]` bool, or None from a detector of boxes."""

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes are [o 4], not {list(self.boxes.shape)}")
        if self.masks is not None and self.masks.ndim != 3:
            raise ValueError(f"masks are [o H W], not {list(self.masks.shape)}")
        parts = {"scores": self.scores, "labels": self.labels, "masks": self.masks}
        _same_length("detections", len(self.boxes), parts)

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections:
        """The same on `device`."""
        masks = None if self.masks is None else self.masks.to(device)
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device), masks)


def _same_length(what: str, length: int, parts: dict[str, Tensor | None]) -> None:
    for name, part in parts.items():
        if part is not None and len(part) != length:
            raise ValueError(f"{what}: {length} boxes but {len(part)} {name}; each box has one")


IGNORE = 255
"""The label of a pixel that neither trains nor scores, in every label map."""


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """What a training step of semantic segmentation sees: images with a class for every pixel."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b H W]` int64 class indices, `IGNORE` where there is none."""
    ids: tuple[str, ...]
    """One name an image, for messages."""

    def pin_memory(self) -> LabelMaps:
        """The same in page-locked memory, from which a copy to a GPU need not wait; PyTorch's loader calls this."""
        return LabelMaps(self.image.pin_memory(), self.label.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> LabelMaps:
        """The same on `device`."""
        return LabelMaps(self.image.to(device, non_blocking=True), self.label.to(device, non_blocking=True), self.ids)


@dataclass(frozen=True, slots=True)
class Scene:
    """What an evaluation step of semantic segmentation sees: one image, with its truth at native size."""

    id: str
    case: str
    """What is independent of other cases: a patient, where the data tells, else the image itself."""
    image: Tensor
    """`[1 c h w]` float32, normalised, at the size that the model is to see."""
    label: Tensor
    """`[H W]` uint8 class indices at native size, `IGNORE` where there is none."""
