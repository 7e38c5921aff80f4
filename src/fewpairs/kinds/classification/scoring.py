"""Predicted classes as a comparison sees them: scores, intervals over images, paired differences, files of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewpairs.kinds.classification.bootstrap import image_intervals, image_paired
from fewpairs.kinds.classification.record import confusions, load_image_records, save_image_records
from fewpairs.kinds.classification.scores import image_scores
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES, find_score


@dataclass(frozen=True)
class ClassificationScoring:
    """Scores of predicted classes over images."""

    headline = "top1"
    compared = ("top1", "balanced_accuracy", "nll")
    unit = "images"
    rule = ""

    def check(self, name: str, classes: Sequence[str]) -> None:
        find_score(name, classes, CLASSIFICATION_SCORES)

    def higher_is_better(self, name: str) -> bool | None:
        score = CLASSIFICATION_SCORES.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        return len(records)

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        return image_scores(records)

    def intervals(self, runs: Sequence[Any], *, samples: int) -> dict[str, Interval]:
        return image_intervals(runs, samples=samples)

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, margin: float, samples: int
    ) -> PairedDifference:
        return image_paired(baseline, candidate, metric=metric, margin=margin, samples=samples)

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        return confusions(records)

    def save(self, records: Sequence[Any], path: Path) -> None:
        save_image_records(records, path)

    def load(self, path: Path) -> list[Any]:
        return list(load_image_records(path))
