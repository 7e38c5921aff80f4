"""The metric for label maps, and the scoring of its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.record import SemanticRecord, confusions, semantic_record
from fewpairs.kinds.semantic.scores import sum_by_case
from fewpairs.scoring.metric import RecordMetric
from fewpairs.scoring.score_table import SEMANTIC_SCORES
from fewpairs.scoring.scoring import Scoring
from fewpairs.scoring.unit_table import SumTable, Units
from fewpairs.types import Scene


@dataclass(frozen=True)
class SemanticScoring(Scoring):
    """Scores of label maps over a whole evaluation set.

    Intervals resample images, or patients if `unit` is "cases". The scores of a resample are computed from its summed
    confusion counts, so a mean IoU is always that of a whole set and never a mean over images.
    """

    unit: Units = "images"

    record = SemanticRecord
    headline = "miou"
    compared = ("miou", "macc", "aacc")
    known = SEMANTIC_SCORES
    rule = (
        "Mean IoU adds up the pixels of all images first; a class that neither truth nor predictions hold is left out "
        "of the mean."
    )

    def table(self, records: Sequence[SemanticRecord]) -> SumTable:
        return sum_by_case(records, self.unit)

    def confusions(self, records: Sequence[SemanticRecord]) -> tuple[tuple[int, int, int], ...]:
        """Return (true class, predicted class, pixels) over all records."""
        return confusions(records)


class SemanticMetric(RecordMetric[SemanticRecord]):
    """Computes the scores of label maps from single images (see `SEMANTIC_SCORES`)."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes, SemanticScoring(), fewest=2)

    def measure(self, prediction: Tensor, item: Scene) -> list[SemanticRecord]:
        """`prediction` is `[1 H W]` class indices at the size of the item's labels."""
        if prediction.ndim != 3 or len(prediction) != 1:
            raise InputError(f"{item.id}: expected one label map [1 H W], got {list(prediction.shape)}")
        return [semantic_record(prediction[0], item.label, id=item.id, case=item.case, classes=self.classes)]
