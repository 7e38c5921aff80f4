"""The metric object that an evaluation of a detector feeds, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fewpairs.errors import InputError
from fewpairs.kinds.detection.matching import MAX_DETECTIONS
from fewpairs.kinds.detection.record import PictureRecord, merge_picture_records, picture_record
from fewpairs.kinds.detection.scores import detection_scores
from fewpairs.types import Detections, Picture


class CocoMetric:
    """COCO's average precision, from one record an image, so that batches and processes cannot change a score.

    Args:
        classes: names in the order of the labels.
        masks: judge masks as well as boxes.
        max_detections: of a class in an image, the best ones, that count; COCO's number is 100.
    """

    def __init__(self, classes: Sequence[str], *, masks: bool = False, max_detections: int = MAX_DETECTIONS) -> None:
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least one; got {classes!r}")
        self.classes, self.masks, self.max_detections = tuple(classes), masks, max_detections
        self._records: list[PictureRecord] = []

    def update(self, prediction: Sequence[Detections], item: Picture) -> list[PictureRecord]:
        """Judge one image by the one list of detections in `prediction`; returns its record.

        Detections that are not finite are left out and counted. Raises InputError when labels or masks do not fit.
        """
        if len(prediction) != 1:
            raise InputError(f"image {item.id!r} needs one list of detections, got {len(prediction)}")
        size = (item.image.shape[-2], item.image.shape[-1])
        record = picture_record(item.id, size, item.objects, prediction[0], classes=self.classes, masks=self.masks)
        self._records.append(record)
        return [record]

    def merge(self, records: Iterable[PictureRecord]) -> None:
        """Take in records that another process made; images that are here already must agree and count once."""
        self._records = merge_picture_records([*self._records, *records])

    @property
    def records(self) -> list[PictureRecord]:
        """One record an image, sorted by name."""
        return merge_picture_records(self._records)

    def compute(self) -> dict[str, float]:
        """Every score by name (see `DETECTION_SCORES`); NaN where no image holds an object that it is about."""
        return detection_scores(self._records, max_detections=self.max_detections)
