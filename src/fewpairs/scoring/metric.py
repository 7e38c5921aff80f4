"""Metric that collects the records of an evaluation item by item and computes scores from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from fewpairs.errors import InputError
from fewpairs.scoring.records import Record, merge_records
from fewpairs.scoring.scoring import Scoring

R = TypeVar("R", bound=Record)

_NUMBERS = {1: "one", 2: "two"}


class RecordMetric(ABC, Generic[R]):
    """Metric that keeps records of single scans or images, so that scores do not depend on batches or processes.

    Raises:
        InputError: there are fewer than `fewest` classes, or two have the same name.
    """

    def __init__(self, classes: Sequence[str], scoring: Scoring, *, fewest: int = 1) -> None:
        if isinstance(classes, str) or len(classes) < fewest or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least {_NUMBERS[fewest]}; got {classes!r}")
        self.classes, self.scoring = tuple(classes), scoring
        self._records: list[R] = []

    @abstractmethod
    def measure(self, prediction: Any, item: Any) -> list[R]:
        """Return the records of an item. Raises InputError if the prediction does not fit it."""

    def update(self, prediction: Any, item: Any) -> list[R]:
        """Score one item and return its records."""
        records = self.measure(prediction, item)
        self._records += records
        return records

    def merge(self, records: Iterable[R]) -> None:
        """Add the records of another process; repeated images must agree and count once."""
        self._records = merge_records([*self._records, *records])

    @property
    def records(self) -> list[R]:
        """Records of the scans or images, sorted by name."""
        return merge_records(self._records)

    def compute(self) -> dict[str, float]:
        """Compute every score by name, `name/<class>` for a class; NaN if a score is not defined."""
        return self.scoring.scores(self._records)
