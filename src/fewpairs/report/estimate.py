"""A score, or a difference of one, with where it may lie: what reports keep of what metrics computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class IntervalLike(Protocol):
    """What `fewpairs.scoring.interval.Interval` offers."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class DifferenceLike(IntervalLike, Protocol):
    """What `fewpairs.scoring.interval.PairedDifference` offers."""

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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its interval: `value` is None where it is undefined, `low` and `high` where there is no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, interval: IntervalLike) -> Estimate:
        """The same three numbers of any object that has them."""
        return cls(interval.value, interval.low, interval.high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of a score, this row minus the first row, on the same cases or images.

    `margin` is the largest loss (in the score's own unit, positive) that is still acceptable. `verdict` is the word of
    whoever computed the interval; the reports derive theirs from the four numbers, so it is kept for the record.
    """

    value: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: str = ""
    over: str = ""
    """What the interval was drawn over, such as "images and seeds"; empty: whatever `Comparison.over` says."""
    runs_low: float | None = None
    runs_high: float | None = None
    """The interval that takes the trainings as they are, where the main one draws seeds too."""

    @classmethod
    def of(cls, paired: DifferenceLike) -> Difference:
        """The same numbers of any object that has them."""
        said = str(paired.verdict)
        ends = paired.runs_low, paired.runs_high
        return cls(paired.value, paired.low, paired.high, paired.margin, said, paired.over, *ends)
