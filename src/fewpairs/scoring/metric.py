"""The metric that an evaluation feeds, item by item; it keeps records, and every score is made of them at the end."""

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
    """Collects records of single scans or images, so that batches and processes cannot change a score.

    Raises:
        InputError: fewer than `fewest` classes, or two of one name.
    """

    def __init__(self, classes: Sequence[str], scoring: Scoring, *, fewest: int = 1) -> None:
        if isinstance(classes, str) or len(classes) < fewest or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least {_NUMBERS[fewest]}; got {classes!r}")
        self.classes, self.scoring = tuple(classes), scoring
        self._records: list[R] = []

    @abstractmethod
    def measure(self, prediction: Any, item: Any) -> list[R]:
        """The records of an item. Raises InputError when the prediction does not fit it."""

    def update(self, prediction: Any, item: Any) -> list[R]:
        """Score one item and return its records."""
        records = self.measure(prediction, item)
        self._records += records
        return records

    def merge(self, records: Iterable[R]) -> None:
        """Take in records that another process made; images that are here already must agree and count once."""
        self._records = merge_records([*self._records, *records])

    @property
    def records(self) -> list[R]:
        """One record a scan or image, sorted by name."""
        return merge_records(self._records)

    def compute(self) -> dict[str, float]:
        """Every score by name, that of a class as `name/<class>`; NaN where a score is not defined."""
        return self.scoring.scores(self._records)
