"""The metric for detections, and the scoring of its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.detection.matching import MAX_DETECTIONS
from fewpairs.kinds.detection.record import DetectionRecord, detection_record
from fewpairs.kinds.detection.scores import MatchedDetections, match_detections
from fewpairs.scoring.metric import RecordMetric
from fewpairs.scoring.score_table import DETECTION_SCORES, Score
from fewpairs.scoring.scoring import Scoring
from fewpairs.types import DetectionItem, Detections


@dataclass(frozen=True)
class DetectionScoring(Scoring):
    """COCO's scores of boxes and, with `masks`, of masks.

    Attributes:
        headline: the score that verdicts are based on, such as `ap`, `ap50` or `mask_ap`.
        max_detections: the number of best detections per class and image that count; COCO's is 100.

    Raises:
        InputError: the headline is not a score, or `max_detections` is below 1.
    """

    masks: bool = False
    headline: str = "ap"
    max_detections: int = MAX_DETECTIONS

    record = DetectionRecord
    unit = "images"

    def __post_init__(self) -> None:
        if self.headline not in self.known:
            raise InputError(f"headline={self.headline!r}: no such score; {nearest(self.headline, self.known)}")
        if self.max_detections < 1:
            raise InputError(f"max_detections={self.max_detections}: give at least 1")

    @property
    def compared(self) -> tuple[str, ...]:
        shown = ("ap", "ap50", "ap75", *(("mask_ap", "mask_ap50") if self.masks else ()))
        return (self.headline, *(name for name in shown if name != self.headline))

    @property
    def rule(self) -> str:
        return (
            f"COCO's average precision over the best {self.max_detections} detections of a class in an image; a score "
            "is not defined where no image holds an object that it is about"
        )

    @property
    def known(self) -> dict[str, Score]:
        return {name: score for name, score in DETECTION_SCORES.items() if self.masks or not name.startswith("mask_")}

    def table(self, records: Sequence[DetectionRecord]) -> MatchedDetections:
        return match_detections(records, max_detections=self.max_detections)


class DetectionMetric(RecordMetric[DetectionRecord]):
    """Computes COCO's average precision from single images (see `DETECTION_SCORES`).

    Args:
        classes: names in the order of the labels.
        masks: score masks in addition to boxes.
        max_detections: the number of best detections per class and image that count; COCO's is 100.
    """

    def __init__(self, classes: Sequence[str], *, masks: bool = False, max_detections: int = MAX_DETECTIONS) -> None:
        super().__init__(classes, DetectionScoring(masks=masks, max_detections=max_detections))
        self.masks, self.max_detections = masks, max_detections

    def measure(self, prediction: Sequence[Detections], item: DetectionItem) -> list[DetectionRecord]:
        """Make the record of one image from its single list of detections; non-finite ones are left out and counted.

        Raises InputError if labels or masks do not fit.
        """
        if len(prediction) != 1:
            raise InputError(f"image {item.id!r} needs one list of detections, got {len(prediction)}")
        size = (item.image.shape[-2], item.image.shape[-1])
        return [
            detection_record(item.id, size, item.objects, prediction[0], classes=self.classes, masks=self.masks),
        ]
