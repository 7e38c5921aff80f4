"""What training and evaluation of a detector iterate over: pictures with augmentation, and pictures as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.data.chance import chance
from fewpairs.errors import InputError
from fewpairs.kinds.detection.source import AnnotatedImage
from fewpairs.kinds.detection.view import DetectionAugment, DetectionView, augmented
from fewpairs.types import DetectionBatch, DetectionItem, Objects


@dataclass(frozen=True, slots=True)
class DetectionSample:
    """One training picture."""

    image: Tensor
    """`[c H W]` float32 in 0..1."""
    objects: Objects
    id: str
    key: tuple[int, int]
    """Epoch and index by which it was asked for."""
    cut: int
    """Objects that a crop cut away."""


class DetectionDataset(Dataset[DetectionSample]):
    """Some images of a source, for training; those without objects among them.

    An item is asked for by `(epoch, index)` with `0 <= index < len(self)`. All chance in it comes from seed, epoch and
    index, never from a worker or from what was asked before, so a run does not depend on the number of workers and can
    be resumed anywhere. Python's, NumPy's and PyTorch's global generators are left as they were.

    Args:
        records: `source.part("train")`, or some of it; `.with_objects()` leaves out images without objects.
        augment: None for pictures as the view has them.
        masks: give masks too.

    Raises:
        InputError: no images, masks of a data set that has none, or a negative seed.
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
        with chance((self.seed, epoch, index)):
            shown = augmented(pixels, objects, self.view, self.augment)
        return DetectionSample(shown.image, shown.objects, record.id, (epoch, index), shown.cut)


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Samples -> a batch; the pictures keep their own sizes, the detector pads them."""
    return DetectionBatch(
        tuple(sample.image for sample in samples),
        tuple(sample.objects for sample in samples),
        tuple(sample.id for sample in samples),
    )


class DetectionItems(Sequence[DetectionItem]):
    """Some images of a source in their order, as in evaluation: at their own size, decoded when asked for.

    Args:
        view: its channels count; resizing for evaluation is the detector's.

    Raises:
        InputError: no images, or masks of a data set that has none.
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
