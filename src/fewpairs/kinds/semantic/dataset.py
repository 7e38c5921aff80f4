"""Data sets of images with label maps: crops with augmentation for training, whole images for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.augment import SemanticAugment, train_sample
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource
from fewpairs.kinds.semantic.view import SemanticView
from fewpairs.types import Scene, SemanticBatch


@dataclass(frozen=True, slots=True)
class SemanticSample:
    """One training crop."""

    image: Tensor
    """`[c H W]` float32, normalised."""
    label: Tensor
    """`[H W]` int64, `IGNORE` for pixels without a class."""
    id: str


class SemanticDataset(Dataset[SemanticSample]):
    """Images of a source, for training.

    Items are indexed by `(epoch, index)` with `0 <= index < len(self)`. Their random numbers depend on seed, epoch and
    index alone, so the number of workers does not change a run, and it can be resumed anywhere.

    Args:
        augment: None crops the centre of each image.

    Raises:
        InputError: there are no images, or the seed is negative.
    """

    def __init__(
        self,
        source: SemanticSource,
        files: Sequence[ImageFiles],
        view: SemanticView,
        *,
        augment: SemanticAugment | None = None,
        seed: int = 0,
    ) -> None:
        if not files:
            raise InputError(f"{source.name}: no images to train on")
        if seed < 0:
            raise InputError(f"seed={seed}: give 0 or a positive number")
        self.source, self.files, self.augment, self.seed = source, tuple(files), augment, seed
        self.view = view.with_channels(source.channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> SemanticSample:
        epoch, index = (int(number) for number in key)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        files = self.files[index]
        image, labels = self.source.read(files)
        generator = np.random.default_rng([self.seed, epoch, index])
        return SemanticSample(*train_sample(image, labels, self.view, self.augment, generator), files.id)


def collate_semantic(samples: Sequence[SemanticSample]) -> SemanticBatch:
    """Stack samples of one size into a batch."""
    return SemanticBatch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.label for sample in samples]),
        tuple(sample.id for sample in samples),
    )


class SemanticItems(Sequence[Scene]):
    """Whole images of a source in their order, for evaluation; each is decoded on access.

    Raises:
        InputError: there are no images.
    """

    def __init__(self, source: SemanticSource, files: Sequence[ImageFiles], view: SemanticView) -> None:
        if not files:
            raise InputError(f"{source.name}: no images to evaluate on")
        self.source, self.files, self.view = source, tuple(files), view.with_channels(source.channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        files = self.files[index]
        image, labels = self.source.read(files)
        return Scene(files.id, files.case, self.view.apply(image)[None], torch.from_numpy(labels))
