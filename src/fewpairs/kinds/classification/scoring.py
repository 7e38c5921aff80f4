"""Predicted classes: the metric that an evaluation feeds, and how its records become scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fewpairs.kinds.classification.record import ClassificationRecord, classification_records, confusions
from fewpairs.kinds.classification.scores import ImageTable, tabulate
from fewpairs.scoring.metric import RecordMetric
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES
from fewpairs.scoring.scoring import Scoring
from fewpairs.types import Labelled


@dataclass(frozen=True)
class ClassificationScoring(Scoring):
    """Scores of predicted classes over images."""

    record = ClassificationRecord
    headline = "top1"
    compared = ("top1", "balanced_accuracy", "nll")
    unit = "images"
    known = CLASSIFICATION_SCORES

    def table(self, records: Sequence[ClassificationRecord]) -> ImageTable:
        return tabulate(records)

    def confusions(self, records: Sequence[ClassificationRecord]) -> tuple[tuple[int, int, int], ...]:
        """(true class, predicted class, images)."""
        return confusions(records)


class ClassificationMetric(RecordMetric[ClassificationRecord]):
    """Scores of a classifier, some images at a time (see `CLASSIFICATION_SCORES`).

    An image with an output that is not finite counts as wrong, and the score `not_finite` says how many there are.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes, ClassificationScoring(), fewest=2)

    def measure(self, prediction: Tensor, item: Labelled) -> list[ClassificationRecord]:
        """`prediction` holds the outputs `[s k]` for the item's images, before the softmax.

        Raises InputError when outputs do not fit classes or labels, or labels are mixed ones.
        """
        return classification_records(prediction, item.label, ids=item.ids, classes=self.classes)
