"""What training and evaluation iterate over: crops with augmentation, and whole images without."""

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
from fewpairs.types import LabelMaps, Scene


@dataclass(frozen=True, slots=True)
class SemanticSample:
    """One training crop."""

    image: Tensor
    """`[c H W]` float32, normalised."""
    label: Tensor
    """`[H W]` int64, `IGNORE` where there is no class."""
    id: str


class SemanticDataset(Dataset[SemanticSample]):
    """Some images of a source, for training.

    An item is asked for by `(epoch, index)` with `0 <= index < len(self)`. All chance in it comes from seed, epoch and
    index, so a run does not depend on the number of workers and can be resumed anywhere.

    Args:
        augment: None for the middle of each image as evaluation sees it.

    Raises:
        InputError: no images, or a negative seed.
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


def collate_semantic(samples: Sequence[SemanticSample]) -> LabelMaps:
    """Samples of one size -> a batch."""
    return LabelMaps(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.label for sample in samples]),
        tuple(sample.id for sample in samples),
    )


class SemanticItems(Sequence[Scene]):
    """Some images of a source in their order, whole, as in evaluation; decoded when asked for.

    Raises:
        InputError: no images.
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
