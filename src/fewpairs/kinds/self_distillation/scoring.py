"""From features of a bank and of queries to scores, intervals and paired differences over the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.kinds.classification.scores import ImageTable
from fewpairs.kinds.classification.scoring import ClassificationScoring
from fewpairs.kinds.self_distillation.features import FeatureRecord, NeighbourMetric
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.matching_runs import as_runs
from fewpairs.scoring.score_table import FEATURE_SCORES
from fewpairs.scoring.scoring import Scoring

Value = TypeVar("Value")

_PREFIX = "knn_"
_KNOWN = {key: score for key, score in FEATURE_SCORES.items() if key.startswith(_PREFIX)}
_VOTES = ClassificationScoring()


@dataclass(frozen=True)
class FeatureScoring(Scoring):
    """Scores of features by the vote of `neighbours` nearest ones, over the queries.

    Records are an evaluation's features, or the votes on each query: files hold the latter. Votes are scored as a
    classifier's outputs are.
    """

    neighbours: int = 20

    record = ClassificationRecord
    headline = "knn_top1"
    compared = ("knn_top1",)
    unit = "images"
    known = _KNOWN

    @property
    def rule(self) -> str:
        return f"The class of an image is voted for by the {self.neighbours} training images with the nearest features."

    def table(self, records: Sequence[Any]) -> ImageTable:
        return _VOTES.table(self.votes(records))

    def higher_is_better(self, name: str) -> bool | None:
        """None where no score has this name."""
        score = FEATURE_SCORES.get(name)
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        return len(self.votes(records))

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        return _renamed(_VOTES.scores(self.votes(records)))

    def intervals(self, runs: Sequence[Any], **options: Any) -> dict[str, Interval]:
        return _renamed(_VOTES.intervals(self._runs(runs, "the evaluation"), **options))

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, **options: Any
    ) -> PairedDifference:
        sides = self._runs(baseline, "the baseline"), self._runs(candidate, "the candidate")
        self.check(metric, sides[0][0][0].classes)
        return replace(_VOTES.paired(*sides, metric=metric.removeprefix(_PREFIX), **options), metric=metric)

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        """(true class, class with the most votes, images)."""
        return _VOTES.confusions(self.votes(records))

    def save(self, records: Sequence[Any], path: Path | str) -> None:
        """Write the votes on each query as JSON lines; features are not kept."""
        super().save(self.votes(records), path)

    def votes(self, records: Sequence[Any]) -> list[ClassificationRecord]:
        """A record for each query. Raises InputError for features without queries or without a bank."""
        if all(isinstance(record, ClassificationRecord) for record in records):
            return list(records)
        return list(_votes(self.neighbours, tuple(records)))

    def _runs(self, side: Sequence[Any], name: str) -> list[list[ClassificationRecord]]:
        return [self.votes(run) for run in as_runs(side, name, (ClassificationRecord, FeatureRecord))]


@lru_cache(maxsize=1)
def _votes(neighbours: int, records: tuple[FeatureRecord, ...]) -> tuple[ClassificationRecord, ...]:
    """Compute the votes once for all scores of one evaluation."""
    metric = NeighbourMetric(records[0].classes, neighbours=neighbours)
    metric.merge(records)
    votes = metric.votes()
    if not votes:
        raise InputError("there is nothing to score: features need images in the bank and queries; check the split")
    return tuple(votes)


def _renamed(scores: dict[str, Value]) -> dict[str, Value]:
    return {f"{_PREFIX}{name}": value for name, value in scores.items() if f"{_PREFIX}{name}" in FEATURE_SCORES}
