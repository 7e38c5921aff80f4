"""Medians and ratios of interleaved rounds, with confidence intervals and verdicts.

Intervals are 95 % percentile bootstraps over rounds. A round is resampled with the times of all its contenders, so that
a slow phase of the machine affects both sides of a ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.scoring.interval import percentiles

MIN_ROUNDS = 5
"""The minimum number of rounds for intervals and verdicts."""
SAMPLES = 2000
LEVEL = 0.95

FASTER, SLOWER, UNKNOWN = "faster", "slower", "no difference shown"


@dataclass(frozen=True)
class Spread:
    """The median of one contender's seconds with its interval, and the quartiles over rounds."""

    median: float
    lower_quartile: float
    upper_quartile: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians (below 1: the first is faster), its interval and its verdict."""

    value: float
    low: float | None
    high: float | None
    verdict: str


def summarise(
    seconds: Mapping[str, Sequence[float]], bases: Sequence[str]
) -> tuple[dict[str, Spread], dict[str, dict[str, Ratio]]]:
    """Return spreads by contender, and ratios by contender and base, from one time per contender and round.

    A base has no ratio to itself.
    """
    names = list(seconds)
    times = np.array([seconds[name] for name in names], dtype=np.float64)
    rounds = times.shape[1]
    drawn: dict[str, NDArray[np.float64]] = {}
    if rounds >= MIN_ROUNDS:
        picks = np.random.default_rng(0).integers(rounds, size=(SAMPLES, rounds))
        drawn = dict(zip(names, np.median(times[:, picks], axis=2), strict=True))
    spreads = {name: _spread(row, drawn.get(name)) for name, row in zip(names, times, strict=True)}
    ratios = {
        name: {
            base: _ratio(spreads[name], spreads[base], drawn[name] / drawn[base] if drawn else None)
            for base in bases
            if base in spreads and base != name
        }
        for name in names
    }
    return spreads, ratios


def _spread(row: NDArray[np.float64], drawn: NDArray[np.float64] | None) -> Spread:
    lower, middle, upper = map(float, np.quantile(row, (0.25, 0.5, 0.75)))
    return Spread(middle, lower, upper, *_interval(drawn))


def _ratio(one: Spread, base: Spread, drawn: NDArray[np.float64] | None) -> Ratio:
    low, high = _interval(drawn)
    return Ratio(one.median / base.median, low, high, verdict(one, base, low, high))


def verdict(one: Spread, base: Spread, low: float | None, high: float | None) -> str:
    """Return "faster" or "slower" only if the interval of the ratio excludes 1 and those of medians do not overlap."""
    if low is None or high is None or None in (one.low, one.high, base.low, base.high):
        return UNKNOWN
    if high < 1 and one.high < base.low:  # type: ignore[operator]  # none of them is None here
        return FASTER
    if low > 1 and one.low > base.high:  # type: ignore[operator]
        return SLOWER
    return UNKNOWN


def _interval(drawn: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    if drawn is None:
        return None, None
    return percentiles(drawn, LEVEL)


def as_data(value: Spread | Ratio) -> dict[str, Any]:
    """Return the fields for JSON."""
    return asdict(value)


def crossover(ours: Mapping[int, float], base: Mapping[int, float]) -> float | None:
    """Return the smallest size above which `ours` stays below `base`, interpolated on both logarithms.

    It is the first common size if that holds for all sizes, and None if it fails at the last.
    """
    sizes = sorted(set(ours) & set(base))
    gaps = [float(np.log(ours[n] / base[n])) for n in sizes]
    after = next((i for i in range(len(gaps)) if all(gap < 0 for gap in gaps[i:])), None)
    if after is None:
        return None
    if after == 0:
        return float(sizes[0])
    share = gaps[after - 1] / (gaps[after - 1] - gaps[after])
    return float(np.exp(np.log(sizes[after - 1]) * (1 - share) + np.log(sizes[after]) * share))
