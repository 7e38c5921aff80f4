"""Scores and differences of scores with their intervals, as reports keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class IntervalLike(Protocol):
    """The interface of `fewpairs.scoring.interval.Interval` that reports use."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class DifferenceLike(IntervalLike, Protocol):
    """The interface of `fewpairs.scoring.interval.PairedDifference` that reports use."""

    @property
    def margin(self) -> float: ...
    @property
    def verdict(self) -> str: ...
    @property
    def over(self) -> str: ...
    @property
    def runs_low(self) -> float | None: ...
    @property
    def runs_high(self) -> float | None: ...
    @property
    def sure_low(self) -> float | None: ...
    @property
    def sure_high(self) -> float | None: ...
    @property
    def defining(self) -> int: ...
    @property
    def seeds(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its interval: `value` is None where it is undefined, `low` and `high` where there is no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: IntervalLike) -> Estimate:
        """Copies the three numbers from any object that has them."""
        return cls(interval.value, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of a score, this row minus the first row, on the same cases or images.

    `margin` is the largest loss (in the score's own unit, positive) that is still acceptable. `verdict` is the
    computing function's word and kept for the record; reports derive theirs from the numbers.
    """

    value: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: str = ""
    over: str = ""
    """What was resampled for the interval, such as "images and seeds"; empty means what `Comparison.over` names."""
    runs_low: float | None = None
    runs_high: float | None = None
    """Ends of the interval for fixed training runs, where the main interval resamples seeds too."""
    sure_low: float | None = None
    sure_high: float | None = None
    """Ends that the verdict reads: those of the interval, moved outwards by the error of resampling."""
    units: int | None = None
    """Number of cases or images that define the score; None where it was not recorded."""
    seeds: int | None = None
    """Number of trainings of the side that has fewer; None where it was not recorded."""

    @classmethod
    def of(cls, paired: DifferenceLike) -> Difference:
        """Copies the numbers from any object that has them."""
        return cls(
            paired.value,
            paired.low,
            paired.high,
            paired.margin,
            str(paired.verdict),
            paired.over,
            paired.runs_low,
            paired.runs_high,
            paired.sure_low,
            paired.sure_high,
            paired.defining,
            paired.seeds,
        )
