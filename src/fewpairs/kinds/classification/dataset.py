"""Data sets: single augmented images for training, groups of images for evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.data.pictures import as_channels
from fewpairs.data.random_state import seeded_generators
from fewpairs.errors import InputError
from fewpairs.kinds.classification.augment import LabelledAugment, training_transform
from fewpairs.kinds.classification.source import Indices, LabelledSource
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.types import Labelled

_SAMPLE, _BATCH = 0, 1


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """Training image."""

    image: Tensor
    """`[c H W]` float32, normalised."""
    label: int
    id: str
    key: tuple[int, int]
    """Epoch and index of the sample."""


class ClassificationDataset(Dataset[LabelledSample]):
    """Training images of a source.

    The key of an item is `(epoch, index)` with `0 <= index < len(self)`. All randomness comes from seed, epoch and
    index, so a run does not depend on the number of workers and can be resumed anywhere. The global generators of
    Python, NumPy and PyTorch keep their states.

    Args:
        indices: indices of the images in the source.
        augment: None for images as in evaluation.

    Raises:
        InputError: there are no images, or the seed is negative.
    """

    def __init__(
        self,
        source: LabelledSource,
        indices: Indices,
        view: LabelledView,
        *,
        augment: LabelledAugment | None = None,
        seed: int = 0,
    ) -> None:
        if not len(indices):
            raise InputError(f"{source.name}: no images to train on")
        if seed < 0:
            raise InputError(f"seed={seed}: give 0 or a positive number")
        self.source, self.indices = source, np.asarray(indices, np.int64)
        self.view, self.augment, self.seed = view.with_channels(source.channels), augment, seed
        self.classes, self.channels = source.classes, self.view.channels or 3

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> LabelledSample:
        epoch, index = (int(number) for number in key)
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(self.indices[index])
        picture = as_channels(self.source.read(number), self.channels)
        if self.augment is None:
            image = self.view.apply(picture)
        else:
            with seeded_generators((self.seed, epoch, index), stream=_SAMPLE):
                image = training_transform(self.view, self.augment)(picture)
        return LabelledSample(image, self.source.label(number), self.source.id(number), (epoch, index))


class LabelledCollate:
    """Collation of samples to a batch, with mixup and cutmix if the augmentation has them.

    Pairs and weights depend only on the seed and the keys of the samples. Mixed batches have
    labels `[b k]`, others `[b]`.

    Args:
        classes: number of classes.

    Raises:
        InputError: the number of samples is odd and pairs are mixed.
    """

    def __init__(self, augment: LabelledAugment | None, classes: int, seed: int = 0) -> None:
        self.mixing = None if augment is None else augment.mixing
        self.classes, self.seed = classes, seed

    def __call__(self, samples: Sequence[LabelledSample]) -> Labelled:
        image = torch.stack([sample.image for sample in samples])
        label = torch.tensor([sample.label for sample in samples])
        ids = tuple(sample.id for sample in samples)
        if self.mixing is None:
            return Labelled(image, label, ids)
        if len(samples) % 2:
            raise InputError(f"a batch of {len(samples)} images cannot be mixed in pairs; choose an even batch_size")
        keys = [number for sample in samples for number in sample.key]
        with seeded_generators((self.seed, *keys), stream=_BATCH):
            return Labelled(*self._mixed(image, label), ids)

    def _mixed(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        from timm.data.mixup import Mixup

        mixing = self.mixing
        if mixing is None:
            raise TypeError("no mixing is set")
        mix = Mixup(
            mixup_alpha=mixing.mixup,
            cutmix_alpha=mixing.cutmix,
            cutmix_minmax=mixing.cutmix_minmax,
            prob=mixing.prob,
            switch_prob=mixing.switch,
            mode=mixing.mode,
            label_smoothing=0.0,
            num_classes=self.classes,
        )
        mixed, labels = mix(image, label)
        return mixed, labels.float()


class ClassificationItems(Sequence[Labelled]):
    """Images of a source in order for evaluation, in groups of at most `chunk` that are decoded on access.

    Raises:
        InputError: there are no images, or `chunk` is below 1.
    """

    def __init__(self, source: LabelledSource, indices: Indices, view: LabelledView, *, chunk: int = 64) -> None:
        if chunk < 1:
            raise InputError(f"chunk={chunk}: a group has at least 1 image")
        if not len(indices):
            raise InputError(f"{source.name}: no images to evaluate on")
        self.source, self.indices, self.chunk = source, np.asarray(indices, np.int64), chunk
        self.view = view.with_channels(source.channels)
        self.classes, self.channels = source.classes, self.view.channels or 3

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.chunk)

    def __getitem__(self, index: int) -> Labelled:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"group {index} of {len(self)}")
        start = index % len(self) * self.chunk
        numbers = [int(number) for number in self.indices[start : start + self.chunk]]
        image = torch.stack([self.view.apply(self.source.read(number)) for number in numbers])
        label = torch.from_numpy(self.source.labels[numbers])
        return Labelled(image, label, tuple(self.source.id(number) for number in numbers))
