"""Data sets of scans: single slices with augmentation for training, whole scans for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.augment import SegmentationAugment
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.label_values import ignored_voxels
from fewpairs.kinds.segmentation.store import Store
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.types import Scan, SegmentationBatch


@dataclass(frozen=True, slots=True)
class SegmentationSample:
    """One training slice."""

    image: Tensor
    """`[c H W]` float32, normalised, at model size."""
    mask: Tensor
    """`[k H W]` float32, 0 or 1, at model size; -1 where nothing is trained."""
    id: str


def collate_segmentation(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """Stack samples of one size into a batch."""
    return SegmentationBatch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.mask for sample in samples]),
        tuple(sample.id for sample in samples),
    )


class SegmentationDataset(Dataset[SegmentationSample]):
    """The slices of the given cases, for training. Slices that are ignored as a whole are left out.

    Items are indexed by `(epoch, index)` with `0 <= index < len(self)`. Their random numbers depend on seed, epoch and
    index alone, so the number of workers does not change a run, and it can be resumed anywhere.

    Args:
        cases: names of the cases; all of their scans are used.
        augment: None leaves the slices unchanged.
        empty_fraction: share, from 0 to 1, of the slices without any class that each epoch uses. Below 1, each epoch
            draws other ones. Slices with a class are part of every epoch.

    Raises:
        InputError: an unknown case, slices that do not fit the view, or no slices left.
    """

    def __init__(
        self,
        store: Store,
        cases: Sequence[str],
        view: SegmentationView,
        *,
        augment: SegmentationAugment | None = None,
        seed: int = 0,
        empty_fraction: float = 1.0,
    ) -> None:
        if not 0 <= empty_fraction <= 1:
            raise InputError(f"empty_fraction={empty_fraction}: give a share from 0 to 1")
        self.store, self.view, self.augment, self.seed = store, view, augment, seed
        self.classes = store.classes
        self.channels = view.channels(store.channels)
        scans = store.of_cases(cases)
        view.check(store.scans[index].size for index in scans)
        places = np.array([(scan, s) for scan in scans for s in range(store.scans[scan].slices)], np.int64)
        empty = np.array([flag for scan in scans for flag in store.scans[scan].empty], bool)
        if store.ignores:
            known = np.array([some < np.prod(store.scans[i].size) for i in scans for some in store.scans[i].ignored])
            places, empty = places[known], empty[known]
        kept = round(empty_fraction * int(empty.sum()))
        self._full, self._empty = places[~empty], places[empty]
        self._all = places if kept == len(self._empty) else None
        self._length = len(self._full) + kept
        if self._length == 0:
            raise InputError(
                "all slices of these cases are empty and empty_fraction=0 leaves none to train on"
                if len(places)
                else "all slices of these cases are ignored as a whole, which leaves none to train on"
            )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: tuple[int, int]) -> SegmentationSample:
        epoch, index = key
        if not 0 <= index < self._length:
            raise IndexError(f"slice {index} of {self._length}")
        number, position = self._place(epoch, index)
        scan = self.store.scans[number]
        pixels = self.store.image(number)
        image, geometry = self.view.apply(pixels, scan.statistics, [position], numbers=scan.numbers)
        packed = np.asarray(self.store.mask(number)[position])
        bits = unpack(packed, len(self.classes)).astype(np.float32)
        if self.store.ignores:
            bits[:, ignored_voxels(packed, len(self.classes))] = -1
        mask = geometry.apply(torch.from_numpy(bits)[None], mode="nearest")
        if self.augment is None:
            return SegmentationSample(image[0], mask[0], scan.slice_ids[position])
        rng = np.random.default_rng([self.seed, epoch, index])
        return SegmentationSample(*self.augment(image[0], mask[0], rng), scan.slice_ids[position])

    def _place(self, epoch: int, index: int) -> tuple[int, int]:
        if self._all is not None:
            place = self._all[index]
        elif index < len(self._full):
            place = self._full[index]
        else:
            place = self._empty[_drawn(self.seed, epoch, len(self._empty))[index - len(self._full)]]
        return int(place[0]), int(place[1])


@lru_cache(maxsize=4)
def _drawn(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Draw the order in which an epoch uses the `count` empty slices."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class SegmentationItems(Sequence[Scan]):
    """The whole scans of the given cases, for evaluation, in the order of the store; each is read on access.

    Raises:
        InputError: an unknown case, or slices that do not fit the view.
    """

    def __init__(self, store: Store, cases: Sequence[str], view: SegmentationView) -> None:
        self.store, self.view = store, view
        self.classes = store.classes
        self.channels = view.channels(store.channels)
        self._scans = store.of_cases(cases)
        view.check(store.scans[index].size for index in self._scans)

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> Scan:  # type: ignore[override]
        number = self._scans[index]
        scan = self.store.scans[number]
        image, geometry = self.view.apply(self.store.image(number), scan.statistics, numbers=scan.numbers)
        packed, classes = np.asarray(self.store.mask(number)), len(self.classes)
        mask = torch.from_numpy(unpack(packed, classes))
        ignored = torch.from_numpy(ignored_voxels(packed, classes)) if self.store.ignores else None
        return Scan(
            scan.id, scan.case, image, mask, scan.spacing, geometry, scan.slice_ids, ignored, numbers=scan.numbers
        )
