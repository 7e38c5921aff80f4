"""Masks of scans as a comparison sees them: scores, intervals over cases, paired differences, files of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewpairs.kinds.segmentation.bootstrap import intervals, paired
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import load_records, save_records
from fewpairs.kinds.segmentation.scores import compute_scores
from fewpairs.scoring.interval import Interval, PairedDifference
from fewpairs.scoring.score_table import SEGMENTATION_SCORES, find_score


@dataclass(frozen=True)
class SegmentationScoring:
    """Scores of masks over cases, under a rule for empty ones."""

    empty: EmptyRule = EmptyRule.STRICT

    headline = "dice"
    compared = ("dice", "jaccard", "jaccard_weighted")
    unit = "cases"

    @property
    def rule(self) -> str:
        return self.empty.meaning

    def check(self, name: str, classes: Sequence[str]) -> None:
        find_score(name, classes, SEGMENTATION_SCORES)

    def higher_is_better(self, name: str) -> bool | None:
        score = SEGMENTATION_SCORES.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[Any]) -> int:
        return len({record.case for record in records})

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        return compute_scores(records, rule=self.empty)

    def intervals(self, runs: Sequence[Any], *, samples: int) -> dict[str, Interval]:
        return intervals(runs, samples=samples, rule=self.empty)

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, margin: float, samples: int
    ) -> PairedDifference:
        return paired(baseline, candidate, metric=metric, margin=margin, samples=samples, rule=self.empty)

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        return ()

    def save(self, records: Sequence[Any], path: Path) -> None:
        save_records(records, path)

    def load(self, path: Path) -> list[Any]:
        return list(load_records(path))
