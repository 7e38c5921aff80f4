"""Intervals and paired differences, and the arithmetic of the bootstrap."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.scoring.verdict import Reading, Verdict

Array = NDArray[np.float64]
Over = Literal["cases", "images", "cases and seeds", "images and seeds"]
"""Units that a bootstrap draws with replacement."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Score with its interval; `low` and `high` are None if there is none, and `reason` says why."""

    value: float | None
    """Value of the score; None if it is not defined."""
    low: float | None
    high: float | None
    level: float = 0.95
    reason: str | None = None
    over: Over = "cases"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus baseline on the same cases or images, in the unit of the score, with interval and verdict.

    With a gain counted upwards (the sign is turned for scores where lower is better):

    | reading        | the whole interval of the gain lies                  |
    | -------------- | ---------------------------------------------------- |
    | `superior`     | above 0                                              |
    | `non-inferior` | above -margin (and not above 0)                      |
    | `inferior`     | below -margin                                        |
    | `inconclusive` | around -margin, or there is no interval              |

    A two-sided interval of level 0.95 makes the test of non-inferiority one-sided at 0.025, which is the usual one.
    The reading is of the interval with `sure_low` and `sure_high` as its ends, so that no number of resamples turns it.
    The verdict is the reading if there are seeds and units enough (`fewpairs.scoring.verdict`); else it is about these
    runs alone. An interval without width has the verdict "no variation": all resamples agree, which rules nothing out.
    """

    value: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: Verdict
    metric: str
    cases: int
    """Number of cases or images on which both were scored."""
    level: float = 0.95
    reason: str | None = None
    over: Over = "cases"
    runs_low: float | None = None
    runs_high: float | None = None
    """If `over` includes seeds, the ends of the interval without them: of these trainings on other images."""
    reading: Reading = "inconclusive"
    """Where the interval lies, whatever number of seeds and units it comes from."""
    seeds: int = 1
    """Number of trainings of the side that has fewer."""
    defining: int = 0
    """Number of cases or images that define the score on their own, on which the verdict rests."""
    samples: int = 0
    """Number of resamples that were drawn."""
    sure_low: float | None = None
    sure_high: float | None = None
    """Ends of the interval, moved outwards by three standard errors of resampling."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def bounds(
    drawn: Array, defined: int, level: float, units: Literal["cases", "images"]
) -> tuple[float | None, float | None, str | None]:
    """Return the ends of the percentile interval of the scores `drawn`, or None twice and the reason.

    `defined` is the number of units that define the score on their own; resamples without it are NaN and left out.
    """
    if defined < 2:
        number = f"only one {units[:-1]} defines" if defined == 1 else f"no {units[:-1]} defines"
        return None, None, f"{number} this score: an interval over {units} needs at least two"
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return None, None, f"no resample drew one of the {units} that define this score; take more samples"
    return *percentiles(drawn, level), None


def sure_bounds(drawn: Array, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval moved outwards by three standard errors of resampling.

    The share of resamples beyond an end is binomially distributed, so the ends are the percentiles at
    `tail - 3 sqrt(tail (1 - tail) / samples)`: drawing any number of resamples leaves the true ends inside in 99.9 %.
    """
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - level) / 2
    outer = max(0.0, tail - 3 * math.sqrt(tail * (1 - tail) / len(drawn)))
    low, high = np.quantile(drawn, [outer, 1 - outer])
    return float(low), float(high)


def percentiles(drawn: Array, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of drawn numbers without NaN."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def number(value: float) -> float | None:
    """Return a score as a number, None if it is not defined."""
    return None if math.isnan(value) else float(value)


def check_resampling(samples: int, level: float) -> None:
    """Raise InputError if the number of resamples or the level allows no interval."""
    if samples < 100:
        raise InputError(f"samples must be at least 100 resamples (1,000 to 10,000 are usual), got {samples}")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, such as 0.95; got {level}")


def check_margin(margin: float, metric: str) -> None:
    """Raise InputError unless the margin is a finite number of at least 0."""
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"margin must be a number of at least 0, in the unit of {metric}; got {margin}")
