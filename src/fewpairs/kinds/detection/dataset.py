"""Data sets of images with objects: augmented images for training, unchanged images for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.data.random_state import seeded_generators
from fewpairs.errors import InputError
from fewpairs.kinds.detection.source import AnnotatedImage
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView, augmented
from fewpairs.types import DetectionBatch, DetectionItem, Objects


@dataclass(frozen=True, slots=True)
class DetectionSample:
    """One training image."""

    image: Tensor
    """`[c H W]` float32 in 0..1."""
    objects: Objects
    id: str
    key: tuple[int, int]
    """Epoch and index of the item."""
    cut: int
    """Number of objects that a crop removed."""


class DetectionDataset(Dataset[DetectionSample]):
    """Images of a source, with or without objects, for training.

    Items are indexed by `(epoch, index)` with `0 <= index < len(self)`. Their random numbers depend on seed, epoch and
    index alone, so the number of workers does not change a run, and it can be resumed anywhere. The global generators
    of Python, NumPy and PyTorch do not change.

    Args:
        records: `source.part("train")`, or some of it; `.with_objects()` leaves out images without objects.
        augment: None applies the view alone.
        masks: include masks.

    Raises:
        InputError: there are no images or no masks, or the seed is negative.
    """

    def __init__(
        self,
        records: Sequence[AnnotatedImage],
        view: DetectionView,
        *,
        augment: DetectionAugment | None = None,
        masks: bool = False,
        seed: int = 0,
    ) -> None:
        _check(records, masks, "train")
        if seed < 0:
            raise InputError(f"seed={seed}: give 0 or a positive number")
        self.records, self.view, self.augment, self.masks, self.seed = records, view, augment, masks, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> DetectionSample:
        epoch, index = (int(number) for number in key)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        record = self.records[index]
        pixels, objects = self.view.pixels(record.read()), record.objects(masks=self.masks)
        with seeded_generators((self.seed, epoch, index)):
            shown = augmented(pixels, objects, self.view, self.augment)
        return DetectionSample(shown.image, shown.objects, record.id, (epoch, index), shown.cut)


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Collect samples in a batch; images keep their sizes, and the detector pads them."""
    return DetectionBatch(
        tuple(sample.image for sample in samples),
        tuple(sample.objects for sample in samples),
        tuple(sample.id for sample in samples),
    )


class DetectionItems(Sequence[DetectionItem]):
    """Images of a source in their order and at their own size, for evaluation; each is decoded on access.

    Args:
        view: defines the channels; the detector resizes the images.

    Raises:
        InputError: there are no images or no masks.
    """

    def __init__(
        self, records: Sequence[AnnotatedImage], view: DetectionView | None = None, *, masks: bool = False
    ) -> None:
        _check(records, masks, "evaluate")
        self.records, self.view, self.masks = records, view or DetectionView(), masks

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DetectionItem:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        record = self.records[index % len(self)]
        image = self.view.pixels(record.read()).float() / 255
        return DetectionItem(image[None], record.id, record.objects(masks=self.masks))


def _check(records: Sequence[AnnotatedImage], masks: bool, purpose: str) -> None:
    if not len(records):
        raise InputError(f"no images to {purpose} on; choose another part, or keep images without objects")
    if masks and not records[0].has_masks:
        raise InputError(f"no masks to {purpose} on: the data set has boxes alone; use a detector of boxes")
