"""From the times of interleaved rounds to medians, ratios, their intervals, and a verdict that they bear.

Intervals are percentile bootstraps over rounds, at 95 %. A round is drawn whole, with the time of every contender in
it, so that a slow spell of the machine meets both sides of a ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.scoring.interval import percentiles

MIN_ROUNDS = 5
"""Rounds below which there is no interval, and so no verdict."""
SAMPLES = 2000
LEVEL = 0.95

FASTER, SLOWER, UNKNOWN = "faster", "slower", "no difference shown"


@dataclass(frozen=True)
class Spread:
    """Of one contender's seconds: the median with its interval, and the quartiles of the rounds."""

    median: float
    lower_quartile: float
    upper_quartile: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians (below 1: the first takes less time), its interval, and what can be said of it."""

    value: float
    low: float | None
    high: float | None
    verdict: str


def summarise(
    seconds: Mapping[str, Sequence[float]], bases: Sequence[str]
) -> tuple[dict[str, Spread], dict[str, dict[str, Ratio]]]:
    """Spreads by contender, and ratios by contender and base; every contender has one time a round.

    A base is left out of its own ratios.
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
    """ "faster" or "slower" only where both the ratio's interval leaves out 1 and the medians' do not overlap."""
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
    """For JSON."""
    return asdict(value)


def crossover(ours: Mapping[int, float], base: Mapping[int, float]) -> float | None:
    """The smallest size from which on `ours` stays below `base`, interpolated on both logarithms.

    The first common size where that holds from there on; None where it does not even at the last.
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
