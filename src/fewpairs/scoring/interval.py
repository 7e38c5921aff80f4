"""Intervals and paired differences, and the arithmetic of the bootstrap."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError

Array = NDArray[np.float64]
Verdict = Literal["superior", "non-inferior", "inferior", "inconclusive"]
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

    | verdict        | the whole interval of the gain lies                  |
    | -------------- | ---------------------------------------------------- |
    | `superior`     | above 0                                              |
    | `non-inferior` | above -margin (and not above 0)                      |
    | `inferior`     | below -margin                                        |
    | `inconclusive` | around -margin, or there is no interval              |

    A two-sided interval of level 0.95 makes the test of non-inferiority one-sided at 0.025, which is the usual one.
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


def percentiles(drawn: Array, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of drawn numbers without NaN."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def verdict(low: float | None, high: float | None, margin: float, *, higher_is_better: bool) -> Verdict:
    """Return the verdict on a difference with this interval (see `PairedDifference`)."""
    if low is None or high is None:
        return "inconclusive"
    worst, best = (low, high) if higher_is_better else (-high, -low)
    if worst > 0:
        return "superior"
    if worst > -margin:
        return "non-inferior"
    return "inferior" if best < -margin else "inconclusive"


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
