"""Intensity normalisation of slices by the statistics of their scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Normalise = Literal["max", "percentile", "zscore"]
NORMALISATIONS: tuple[Normalise, ...] = ("max", "percentile", "zscore")

_SAMPLE = 1_000_000


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """Intensity statistics of one scan, with one number for each channel."""

    low: tuple[float, ...]
    """1st percentile over the whole scan."""
    high: tuple[float, ...]
    """99th percentile over the whole scan."""
    mean: tuple[float, ...]
    """Mean of the foreground: see `intensity_statistics`."""
    deviation: tuple[float, ...]
    """Standard deviation of the foreground; always positive."""


def intensity_statistics(image: NDArray[Any]) -> IntensityStatistics:
    """Compute the statistics of a scan `[s c H W]`.

    Mean and deviation are robust statistics of the foreground: voxels at the scan's lowest value (the air or padding
    around the body) are left out, and the others are clipped to their 0.5th and 99.5th percentile. Scans with more than
    a million voxels in a channel are subsampled to a million.
    """
    rows = [_channel(image[:, channel]) for channel in range(image.shape[1])]
    low, high, mean, deviation = (tuple(column) for column in zip(*rows, strict=True))
    return IntensityStatistics(low, high, mean, deviation)


def _channel(voxels: NDArray[Any]) -> tuple[float, float, float, float]:
    flat = voxels.reshape(-1)
    flat = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    low, high = np.percentile(flat, (1, 99))
    foreground = flat[flat > flat.min()]
    if foreground.size == 0:
        return float(low), float(high), float(flat[0]), 1.0
    clipped = np.clip(foreground, *np.percentile(foreground, (0.5, 99.5)))
    deviation = float(clipped.std())
    return float(low), float(high), float(clipped.mean()), deviation if deviation > 0 else 1.0


def largest_magnitudes(image: NDArray[Any]) -> NDArray[np.float32]:
    """Compute the largest magnitude of each slice and channel of `[s c H W]`, `[s c 1 1]`."""
    low, high = (end(axis=(-2, -1), keepdims=True).astype(np.float32) for end in (image.min, image.max))
    return np.maximum(np.abs(low), np.abs(high))


def normalise(
    image: NDArray[Any],
    statistics: IntensityStatistics,
    how: Normalise,
    largest: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Normalise slices `[s c H W]` of a scan to float32 of the same shape.

    - `max` divides every slice and channel by its largest magnitude (an all-zero slice stays zero). This is the usual
      choice for UW-Madison, whose slices differ widely in gain. The range is 0 to 1 without negative values. For parts
      of slices, `largest` gives the `largest_magnitudes` of the whole ones.
    - `percentile` clips to the 1st and 99th percentile of the whole *scan*, then scales to 0 to 1.
    - `zscore` subtracts the mean of the scan's foreground and divides by its deviation (see `intensity_statistics`).
    """
    values = image.astype(np.float32)
    if how == "max":
        largest = largest_magnitudes(image) if largest is None else largest
        values /= np.where(largest > 0, largest, np.float32(1))
        return values
    if how == "percentile":
        low, high = _column(statistics.low), _column(statistics.high)
        width = high - low
        values -= low
        values /= np.where(width > 0, width, np.float32(1))
        return np.clip(values, 0, 1, out=values)
    values -= _column(statistics.mean)
    values /= _column(statistics.deviation)
    return values


def _column(numbers: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(numbers, np.float32).reshape(-1, 1, 1)
