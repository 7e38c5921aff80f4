"""Intensities to numbers that a network likes: three ways, each from an image and the statistics of its scan."""

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
    """What is kept about the intensities of one scan, one number a channel."""

    low: tuple[float, ...]
    """1st percentile over the whole scan."""
    high: tuple[float, ...]
    """99th percentile over the whole scan."""
    mean: tuple[float, ...]
    """Of the foreground: see `intensity_statistics`."""
    deviation: tuple[float, ...]
    """Standard deviation of the foreground, at least a tiny positive number."""


def intensity_statistics(image: NDArray[Any]) -> IntensityStatistics:
    """Statistics of a scan `[s c H W]`.

    Mean and deviation are robust and of the foreground: voxels at the scan's lowest value are left out (the air, or the
    constant, that surrounds the body), the others are clipped to their 0.5th and 99.5th percentile. Of scans with more
    than a million voxels a channel, every n-th voxel counts, so that a million remain.
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


def normalise(image: NDArray[Any], statistics: IntensityStatistics, how: Normalise) -> NDArray[np.float32]:
    """Slices `[s c H W]` of a scan -> float32 of the same shape.

    - `max`: every slice and channel divided by its own largest magnitude (one that is zero throughout stays zero); the
      usual choice for UW-Madison, whose slices differ widely in gain. Range 0 to 1 without negative values.
    - `percentile`: clipped to the 1st and 99th percentile of the whole *scan*, then scaled to 0 to 1.
    - `zscore`: minus the mean, divided by the deviation, of the scan's foreground (see `intensity_statistics`).
    """
    values = image.astype(np.float32)
    if how == "max":
        largest = np.abs(values).max(axis=(-2, -1), keepdims=True)
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
