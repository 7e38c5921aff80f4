"""Types that all parts of fewpairs share.

Dimension letters in annotations, einsum patterns and docs:

    b  images in a batch          n  query positions (tokens)      c  image channels, or the width of a token
    h  heads                      m  key positions                 k  foreground classes
    d  width of one head          H, W  height and width in pixels (always in this order)
    s  slices of a scan, from its first to its last
    v  views (crops) of an image, g of them global
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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
    """Layout of the tokens of a sequence `[b n c]`: `prefix` tokens without a position, then `h` rows of `w` tokens."""

    h: int
    w: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """Length of the sequence, prefix included."""
        return self.prefix + self.h * self.w


@dataclass(frozen=True, slots=True)
class Geometry:
    """Mapping between a slice of `native` size and a model input of `model` size.

    `resize` scales height and width independently (bilinear); `pad` keeps the pixels, centres the slice and pads the
    rest, so `model` must be at least `native` in both directions.
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
        """Row and column of the native slice's first pixel in the model input; (0, 0) for `resize`."""
        if self.fit == "resize":
            return 0, 0
        return (self.model[0] - self.native[0]) // 2, (self.model[1] - self.native[1]) // 2

    def apply(self, image: Tensor, *, mode: Literal["bilinear", "nearest"] = "bilinear", value: float = 0.0) -> Tensor:
        """`[s c H W]` at native size -> `[s c H W]` at model size; `value` fills the padding."""
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
class SegmentationBatch:
    """A training batch of multi-label segmentation."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    mask: Tensor
    """`[b k H W]` float32, 1 inside the organ and 0 outside; classes may overlap. -1 where nothing is trained."""
    ids: tuple[str, ...]
    """Name of each image, for messages."""

    def pin_memory(self) -> SegmentationBatch:
        """Return a copy in page-locked memory, for asynchronous transfers to a GPU; PyTorch's loader calls this."""
        return SegmentationBatch(self.image.pin_memory(), self.mask.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> SegmentationBatch:
        """Return a copy on `device`."""
        return SegmentationBatch(
            self.image.to(device, non_blocking=True), self.mask.to(device, non_blocking=True), self.ids
        )


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images with one class each: a training batch or an evaluation item."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b]` int64 class indices, or `[b k]` float32 probabilities if training mixes images."""
    ids: tuple[str, ...]
    """Name of each image, for messages and records."""

    def pin_memory(self) -> Labelled:
        """Return a copy in page-locked memory, for asynchronous transfers to a GPU; PyTorch's loader calls this."""
        return Labelled(self.image.pin_memory(), self.label.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> Labelled:
        """Return a copy on `device`."""
        return Labelled(self.image.to(device, non_blocking=True), self.label.to(device, non_blocking=True), self.ids)


@dataclass(frozen=True, slots=True)
class Scan:
    """An evaluation item of segmentation: one whole scan with its truth at native size."""

    id: str
    case: str
    """The patient. Cases, not scans, are independent of each other, so splits and intervals use cases."""
    image: Tensor
    """`[s c H W]` float32, normalised, at model size."""
    mask: Tensor
    """`[s k H W]` bool, at native size."""
    spacing: Spacing
    geometry: Geometry
    slice_ids: tuple[str, ...]
    ignored: Tensor | None = None
    """`[s H W]` bool: voxels that are not scored, because the data set marks them so."""
    numbers: tuple[int, ...] | None = None
    """Number of each slice if some slices between them are missing; None if they lie side by side."""


@dataclass(frozen=True, slots=True)
class Crops:
    """A training batch of self-distillation: several crops of every image, in the same order of images."""

    image: tuple[Tensor, ...]
    """The global crops first, then the local ones: each `[b c H W]` float32, normalised."""
    ids: tuple[str, ...]
    """Name of each image, for messages."""

    def pin_memory(self) -> Crops:
        """Return a copy in page-locked memory; PyTorch's loader calls this."""
        return Crops(tuple(crop.pin_memory() for crop in self.image), self.ids)

    def to(self, device: torch.device | str) -> Crops:
        """Return a copy on `device`."""
        return Crops(tuple(crop.to(device, non_blocking=True) for crop in self.image), self.ids)


@dataclass(frozen=True, slots=True)
class DistillationOutputs:
    """Outputs of student and teacher for the same images: `o` logits for each of `v` views, the global ones first."""

    student: Tensor
    """`[v b o]` for all views."""
    teacher: Tensor
    """`[g b o]` for the first `g` views, without gradient."""
    centre: Tensor
    """`[o]`, the running mean of the teacher's logits."""
    temperature: float
    """Teacher temperature at this step."""


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Labelled images for the evaluation of features: neighbours of `query` images are looked up in the `bank`."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b]` int64."""
    ids: tuple[str, ...]
    part: Literal["bank", "query"]


@dataclass(frozen=True, slots=True)
class Objects:
    """The true objects of one image for detection; `o` may be 0.

    Raises:
        ValueError: lengths differ, boxes are not `[o 4]`, or masks are not `[o H W]`.
    """

    boxes: Tensor
    """`[o 4]` float32: left, top, right, bottom in pixels of the image; right and bottom are exclusive."""
    labels: Tensor
    """`[o]` int64, 0..k-1, the index into the class names."""
    masks: Tensor | None
    """`[o H W]` bool or uint8, 1 inside; None if the truth has only boxes."""
    crowd: Tensor
    """`[o]` bool: a region of many objects; training ignores it, and scoring counts it as neither hit nor miss."""
    area: Tensor
    """`[o]` float32, px^2 from the annotation; it decides the size range in scoring."""

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
        """Return the truth of an image without objects, with `[0 H W]` masks if `size` is given."""
        masks = None if size is None else torch.zeros(0, *size, dtype=torch.bool)
        empty = torch.zeros(0)
        return cls(torch.zeros(0, 4), empty.long(), masks, empty.bool(), empty)

    def take(self, which: Tensor) -> Objects:
        """Return the objects that `which` selects, a bool mask `[o]` or indices `[p]`."""
        masks = None if self.masks is None else self.masks[which]
        return Objects(self.boxes[which], self.labels[which], masks, self.crowd[which], self.area[which])

    def pin_memory(self) -> Objects:
        """Return a copy in page-locked memory."""
        masks = None if self.masks is None else self.masks.pin_memory()
        parts = (part.pin_memory() for part in (self.crowd, self.area))
        return Objects(self.boxes.pin_memory(), self.labels.pin_memory(), masks, *parts)

    def to(self, device: torch.device | str) -> Objects:
        """Return a copy on `device`."""
        masks = None if self.masks is None else self.masks.to(device, non_blocking=True)
        boxes, labels = self.boxes.to(device, non_blocking=True), self.labels.to(device, non_blocking=True)
        parts = (part.to(device, non_blocking=True) for part in (self.crowd, self.area))
        return Objects(boxes, labels, masks, *parts)


@dataclass(frozen=True, slots=True)
class DetectionBatch:
    """A training batch of detection: images of different sizes with their objects.

    Raises:
        ValueError: the numbers of images, objects and ids differ.
    """

    images: tuple[Tensor, ...]
    """Each `[c H W]` float32 in 0..1; the model normalises."""
    objects: tuple[Objects, ...]
    """Objects of each image, in its pixels."""
    ids: tuple[str, ...]
    """Name of each image, for messages."""

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.objects) == len(self.ids):
            raise ValueError(
                f"{len(self.images)} images, {len(self.objects)} truths and {len(self.ids)} ids: not equal"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image(self) -> DetectionBatch:
        """Argument of the model: images and truth, because a detector computes its losses itself."""
        return self

    def pin_memory(self) -> DetectionBatch:
        """Return a copy in page-locked memory, for asynchronous transfers to a GPU; PyTorch's loader calls this."""
        objects = tuple(one.pin_memory() for one in self.objects)
        return DetectionBatch(tuple(image.pin_memory() for image in self.images), objects, self.ids)

    def to(self, device: torch.device | str) -> DetectionBatch:
        """Return a copy on `device`."""
        images = tuple(image.to(device, non_blocking=True) for image in self.images)
        return DetectionBatch(images, tuple(one.to(device) for one in self.objects), self.ids)


@dataclass(frozen=True, slots=True)
class DetectionItem:
    """An evaluation item of detection: one image at its own size, with its truth in the same pixels."""

    image: Tensor
    """`[1 c H W]` float32 in 0..1."""
    id: str
    """Path of the file inside its folder."""
    objects: Objects


class MasksOnDemand(Protocol):
    """Masks `[o H W]` of a large image, each of which is made on access, so that memory never holds all."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Tensor]: ...
    def __getitem__(self, which: Any) -> Any:
        """Return the mask `[H W]` bool of an index, or the masks on demand of several."""

    def to(self, device: torch.device | str) -> MasksOnDemand: ...


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections in one image, in its pixels, the highest score first.

    Raises:
        ValueError: lengths differ, boxes are not `[o 4]`, or masks are not `[o H W]`.
    """

    boxes: Tensor
    """`[o 4]` float32: left, top, right, bottom in pixels; right and bottom are exclusive."""
    scores: Tensor
    """`[o]` float32, 0..1, descending."""
    labels: Tensor
    """`[o]` int64, 0..k-1."""
    masks: Tensor | MasksOnDemand | None = None
    """`[o H W]` bool, on demand in a large image; None if the detector has no masks."""

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
        """Return a copy on `device`."""
        masks = None if self.masks is None else self.masks.to(device)
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device), masks)


def _same_length(what: str, length: int, parts: Mapping[str, Sized | None]) -> None:
    for name, part in parts.items():
        if part is not None and len(part) != length:
            raise ValueError(f"{what}: {length} boxes but {len(part)} {name}; each box has one")


IGNORE = 255
"""Label of pixels that training and scoring ignore, in every label map."""


@dataclass(frozen=True, slots=True)
class SemanticBatch:
    """A training batch of semantic segmentation: images with a class for every pixel."""

    image: Tensor
    """`[b c H W]` float32, normalised."""
    label: Tensor
    """`[b H W]` int64 class indices or `IGNORE`."""
    ids: tuple[str, ...]
    """Name of each image, for messages."""

    def pin_memory(self) -> SemanticBatch:
        """Return a copy in page-locked memory, for asynchronous transfers to a GPU; PyTorch's loader calls this."""
        return SemanticBatch(self.image.pin_memory(), self.label.pin_memory(), self.ids)

    def to(self, device: torch.device | str) -> SemanticBatch:
        """Return a copy on `device`."""
        return SemanticBatch(
            self.image.to(device, non_blocking=True), self.label.to(device, non_blocking=True), self.ids
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """An evaluation item of semantic segmentation: one image with its truth at native size."""

    id: str
    case: str
    """Independent unit: the patient if the data names it, otherwise the image."""
    image: Tensor
    """`[1 c h w]` float32, normalised, at model size."""
    label: Tensor
    """`[H W]` uint8 class indices or `IGNORE`, at native size."""
