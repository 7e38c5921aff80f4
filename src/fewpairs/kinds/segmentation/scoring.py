"""The metric for masks of scans, and the scoring of its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.kinds.segmentation.scores import sum_by_case
from fewpairs.scoring.metric import RecordMetric
from fewpairs.scoring.score_table import SEGMENTATION_SCORES
from fewpairs.scoring.scoring import Scoring
from fewpairs.scoring.unit_table import SumTable
from fewpairs.types import Scan


@dataclass(frozen=True)
class SegmentationScoring(Scoring):
    """Scores of masks over cases, with a rule for empty masks.

    Intervals resample cases (patients) and not slices or scans, because only cases are independent of each other.
    """

    empty: EmptyRule = EmptyRule.STRICT

    record = SegmentationRecord
    headline = "dice"
    compared = ("dice", "jaccard", "jaccard_weighted")
    unit = "cases"
    known = SEGMENTATION_SCORES

    @property
    def rule(self) -> str:
        return self.empty.meaning

    def table(self, records: Sequence[SegmentationRecord]) -> SumTable:
        return sum_by_case(records, self.empty)


class SegmentationMetric(RecordMetric[SegmentationRecord]):
    """Computes the scores of masks from whole scans (see `SEGMENTATION_SCORES`).

    `rule` defines the scores of empty masks. `surface=False` leaves out HD95 and the Kaggle score, which take most of
    the time, as is sensible during training. Masks may overlap; `SegmentationRecord` defines the background.
    """

    def __init__(self, classes: Sequence[str], *, rule: EmptyRule = EmptyRule.STRICT, surface: bool = True) -> None:
        super().__init__(classes, SegmentationScoring(EmptyRule(rule)))
        self.surface = surface

    def measure(self, prediction: Tensor, item: Scan) -> list[SegmentationRecord]:
        """`prediction` is `[s k H W]` bool at the scan's native size."""
        return [
            segmentation_record(
                prediction,
                item.mask,
                item.spacing,
                scan=item.id,
                case=item.case,
                classes=self.classes,
                surface=self.surface,
                ignored=item.ignored,
                numbers=item.numbers,
            )
        ]
