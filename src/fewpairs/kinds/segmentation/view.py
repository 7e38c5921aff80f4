"""Conversion of slices to model inputs: normalisation, neighbouring slices as channels (2.5-D), size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.intensity import (
    NORMALISATIONS,
    IntensityStatistics,
    Normalise,
    largest_magnitudes,
    normalise,
)
from fewpairs.models.large_images import is_large, shrunk
from fewpairs.types import Fit, Geometry, Size


@dataclass(frozen=True, slots=True)
class SegmentationView:
    """The settings of the model input of a slice.

    Attributes:
        size: height and width of the model's input in pixels.
        fit: `resize` scales each slice to `size`; `pad` centres it in `size` and fills with zeros, keeping its pixels.
        normalise: see `fewpairs.kinds.segmentation.intensity.normalise`.
        stack: odd number of slices that are the channels of the middle one (2.5-D); end slices of a scan are repeated.
        step: distance between stacked slices: `stack=3, step=2` takes s-2, s, s+2.
    """

    size: Size
    fit: Fit = "resize"
    normalise: Normalise = "max"
    stack: int = 1
    step: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or any(length < 1 for length in self.size):
            raise InputError(f"size={self.size}: give height and width, each at least 1 pixel")
        if self.fit not in ("resize", "pad"):
            raise InputError(f"fit={self.fit!r}: allowed are 'resize' and 'pad'")
        if self.normalise not in NORMALISATIONS:
            raise InputError(f"normalise={self.normalise!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
        if self.stack < 1 or self.stack % 2 == 0:
            raise InputError(f"stack={self.stack}: the number of stacked slices is odd (1, 3, 5, ...)")
        if self.step < 1:
            raise InputError(f"step={self.step}: the distance between stacked slices is at least 1")

    def channels(self, channels: int) -> int:
        """Return the number of the model's input channels for slices with `channels` channels."""
        return self.stack * channels

    def geometry(self, native: Size) -> Geometry:
        """Return the mapping from slices of `native` size to the model's input.

        Raises:
            InputError: `fit` is `pad` and slices are larger than `size`.
        """
        try:
            return Geometry(native, self.size, self.fit)
        except ValueError as error:
            raise InputError(str(error)) from None

    def check(self, sizes: Iterable[Size]) -> None:
        """Raise InputError if slices of one of `sizes` do not fit."""
        for size in sorted(set(sizes), reverse=True):
            self.geometry(size)

    def neighbours(self, index: int, slices: int, numbers: Sequence[int] | None = None) -> NDArray[np.intp]:
        """Return the indices of the `stack` slices around slice `index`, clamped to the ends of a scan of `slices`.

        With the `numbers` of the slices, the slice with the nearest number stands for a missing neighbour; of two such,
        that on the side of slice `index`.
        """
        half = self.stack // 2
        wanted = self.step * np.arange(-half, half + 1)
        if numbers is None:
            return np.clip(index + wanted, 0, slices - 1)
        there = np.asarray(numbers)
        apart = np.abs(there[None] - (there[index] + wanted)[:, None]) * 2.0 * slices + np.abs(
            np.arange(slices) - index
        )
        return apart.argmin(axis=1)

    def apply(
        self,
        image: NDArray[Any],
        statistics: IntensityStatistics,
        indices: Sequence[int] | None = None,
        *,
        numbers: Sequence[int] | None = None,
        largest: NDArray[np.float32] | None = None,
    ) -> tuple[Tensor, Geometry]:
        """Convert a scan `[s c H W]` in its stored dtype to float32 inputs `[s stack*c H W]` at model size.

        Returns the inputs and their geometry. Channels are ordered by slice, then by channel. `indices` selects slices;
        by default all are converted. `numbers` are those of the slices, if some between them are missing. `largest` are
        the `intensity.largest_magnitudes` of the slices, needed where `image` is a window of them.
        """
        slices, channels = image.shape[:2]
        geometry = self.geometry((image.shape[2], image.shape[3]))
        if self.stack == 1:
            return self._read(image, range(slices) if indices is None else indices, statistics, largest), geometry
        wanted = np.stack(
            [self.neighbours(i, slices, numbers) for i in (range(slices) if indices is None else indices)]
        )
        needed, place = np.unique(wanted, return_inverse=True)
        flat = self._read(image, needed.tolist(), statistics, largest)
        stacked = flat[torch.from_numpy(place.reshape(-1))]
        return stacked.reshape(len(wanted), self.stack * channels, *self.size), geometry

    def _read(
        self,
        image: NDArray[Any],
        indices: Sequence[int],
        statistics: IntensityStatistics,
        largest: NDArray[np.float32] | None,
    ) -> Tensor:
        """Convert the slices `indices` (ascending) to `[s c H W]` at model size; large ones in bands of rows."""
        native = (image.shape[2], image.shape[3])
        first = indices[0]
        chosen = np.asarray(image[first : indices[-1] + 1])
        if len(indices) < len(chosen):
            chosen = chosen[[index - first for index in indices]]
        if largest is not None:
            largest = largest[list(indices)]
        elif self.normalise == "max" and is_large(native):
            largest = largest_magnitudes(chosen)

        def read(top: int, bottom: int) -> Tensor:
            return torch.from_numpy(normalise(chosen[:, :, top:bottom], statistics, self.normalise, largest))

        if self.fit == "resize" and is_large(native) and not is_large(self.size):
            return shrunk(read, native, self.size)
        return self.geometry(native).apply(read(0, native[0]))
