"""Detections as a comparison sees them: scores, intervals over images, paired differences, files of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.detection.bootstrap import detection_intervals, detection_paired
from fewpairs.kinds.detection.matching import MAX_DETECTIONS
from fewpairs.kinds.detection.record import load_picture_records, save_picture_records
from fewpairs.kinds.detection.scores import detection_scores
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.score_table import DETECTION_SCORES, Score, find_score


@dataclass(frozen=True)
class DetectionScoring:
    """COCO's scores of boxes, with `masks` also of masks.

    Attributes:
        headline: the score that verdicts are about, such as `ap`, `ap50` or `mask_ap`.
        max_detections: of a class in an image, the best ones, that count; COCO's number is 100.

    Raises:
        InputError: no score is called as the headline.
    """

    masks: bool = False
    headline: str = "ap"
    max_detections: int = MAX_DETECTIONS

    unit = "images"

    def __post_init__(self) -> None:
        if self.headline not in self._known:
            raise InputError(f"headline={self.headline!r}: no such score; {nearest(self.headline, self._known)}")
        if self.max_detections < 1:
            raise InputError(f"max_detections={self.max_detections}: at least 1 must count")

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
    def _known(self) -> dict[str, Score]:
        return {name: score for name, score in DETECTION_SCORES.items() if self.masks or not name.startswith("mask_")}

    def check(self, name: str, classes: Sequence[str]) -> None:
        find_score(name, classes, self._known)

    def higher_is_better(self, name: str) -> bool | None:
        score = self._known.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        return len({record.id for record in records})

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        return detection_scores(records, max_detections=self.max_detections)

    def intervals(self, runs: Sequence[Any], *, samples: int) -> dict[str, Interval]:
        return detection_intervals(runs, samples=samples, max_detections=self.max_detections)

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, margin: float, samples: int
    ) -> PairedDifference:
        return detection_paired(
            baseline, candidate, metric=metric, margin=margin, samples=samples, max_detections=self.max_detections
        )

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        return ()

    def save(self, records: Sequence[Any], path: Path) -> None:
        save_picture_records(records, path)

    def load(self, path: Path) -> list[Any]:
        return list(load_picture_records(path))
