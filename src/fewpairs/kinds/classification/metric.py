"""The metric object that an evaluation of a classifier feeds, some images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.classification.bootstrap import image_intervals
from fewpairs.kinds.classification.record import ImageRecord, image_records, merge_image_records
from fewpairs.kinds.classification.scores import image_scores
from fewpairs.scoring.interval import Interval
from fewpairs.types import Labelled


class ClassificationMetric:
    """Collects one record an image; every score is made from them at the end, whatever the batches were.

    An image with an output that is not finite counts as wrong, and the score `not_finite` says how many there are.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least two; got {classes!r}")
        self.classes = tuple(classes)
        self._records: list[ImageRecord] = []

    def update(self, prediction: Tensor, item: Labelled) -> list[ImageRecord]:
        """Judge some images; `prediction` is their outputs `[s k]` before the softmax. Returns their records.

        Raises InputError when outputs do not fit classes or labels, or labels are mixed ones.
        """
        records = image_records(prediction, item.label, ids=item.ids, classes=self.classes)
        self._records += records
        return records

    def merge(self, records: Iterable[ImageRecord]) -> None:
        """Take in records that another process made; images that are here already must agree and count once."""
        self._records = merge_image_records([*self._records, *records])

    @property
    def records(self) -> list[ImageRecord]:
        """One record an image, sorted by name."""
        return merge_image_records(self._records)

    def compute(self) -> dict[str, float]:
        """Every score by name (see `CLASSIFICATION_SCORES`); NaN where a score is not defined."""
        return image_scores(self._records)

    def intervals(self, samples: int = 2000, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
        """Every score with its bootstrap interval over images."""
        return image_intervals(self._records, samples=samples, seed=seed, level=level)
