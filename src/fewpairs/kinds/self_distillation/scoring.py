"""From features of a bank and of queries to scores, intervals and paired differences over the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from fewpairs.errors import InputError
from fewpairs.kinds.classification.bootstrap import image_intervals, image_paired
from fewpairs.kinds.classification.record import ImageRecord, confusions, load_image_records, save_image_records
from fewpairs.kinds.classification.scores import image_scores
from fewpairs.kinds.self_distillation.features import FeatureRecord, NeighbourMetric
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.score_table import FEATURE_SCORES, find_score

Records = Sequence[FeatureRecord] | Sequence[ImageRecord]
"""An evaluation's features, or what became of them: files hold the latter."""

Value = TypeVar("Value")

_PREFIX = "knn_"


@dataclass(frozen=True)
class FeatureScoring:
    """Scores of features by the vote of `neighbours` nearest ones, over the queries."""

    neighbours: int = 20

    headline = "knn_top1"
    compared = ("knn_top1",)
    unit = "images"

    @property
    def rule(self) -> str:
        return f"The class of an image is voted for by the {self.neighbours} training images with the nearest features."

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raises InputError unless there is a score of this name that is made of single images."""
        find_score(name, classes, {key: score for key, score in FEATURE_SCORES.items() if key.startswith(_PREFIX)})

    def higher_is_better(self, name: str) -> bool | None:
        score = FEATURE_SCORES.get(name)
        return None if score is None else score.higher_is_better

    def count(self, records: Records) -> int:
        return len(self.judged(records))

    def scores(self, records: Records) -> dict[str, float]:
        return _renamed(image_scores(self.judged(records)))

    def intervals(self, runs: Sequence[Records], *, samples: int) -> dict[str, Interval]:
        return _renamed(image_intervals([self.judged(records) for records in runs], samples=samples))

    def paired(
        self, baseline: Sequence[Records], candidate: Sequence[Records], *, metric: str, margin: float, samples: int
    ) -> PairedDifference:
        first, second = ([self.judged(records) for records in side] for side in (baseline, candidate))
        self.check(metric, first[0][0].classes if first and first[0] else ())
        plain = image_paired(first, second, metric=metric.removeprefix(_PREFIX), margin=margin, samples=samples)
        return replace(plain, metric=metric)

    def confusions(self, records: Records) -> tuple[tuple[int, int, int], ...]:
        return confusions(self.judged(records))

    def save(self, records: Records, path: Path) -> None:
        """Write what became of each query; features are not kept."""
        save_image_records(self.judged(records), path)

    def load(self, path: Path) -> list[ImageRecord]:
        return list(load_image_records(path))

    def judged(self, records: Records) -> list[ImageRecord]:
        """A record for each query. Raises InputError for features without queries or without a bank."""
        if all(isinstance(record, ImageRecord) for record in records):
            return list(cast(Sequence[ImageRecord], records))
        return list(_judged(self.neighbours, tuple(cast(Sequence[FeatureRecord], records))))


@lru_cache(maxsize=1)
def _judged(neighbours: int, records: tuple[FeatureRecord, ...]) -> tuple[ImageRecord, ...]:
    """Looked up once for all that is asked of one evaluation."""
    metric = NeighbourMetric(records[0].classes, neighbours=neighbours)
    metric.merge(records)
    judged = metric.judge()
    if not judged:
        raise InputError("there is nothing to score: features need images in the bank and queries; check the split")
    return tuple(judged)


def _renamed(scores: dict[str, Value]) -> dict[str, Value]:
    return {f"{_PREFIX}{name}": value for name, value in scores.items() if f"{_PREFIX}{name}" in FEATURE_SCORES}
