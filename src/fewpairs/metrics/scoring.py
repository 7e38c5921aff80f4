"""From records to scores, intervals and paired differences: what a comparison asks of any kind of experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fewpairs.metrics.bootstrap import intervals, paired
from fewpairs.metrics.empty import EmptyRule
from fewpairs.metrics.image_bootstrap import image_intervals, image_paired
from fewpairs.metrics.image_records import confusions, load_image_records, save_image_records
from fewpairs.metrics.image_scores import image_scores
from fewpairs.metrics.resampling import Interval, PairedDifference
from fewpairs.metrics.score import CLASSIFICATION_SCORES, SEGMENTATION_SCORES, find_score
from fewpairs.metrics.scores import compute_scores
from fewpairs.metrics.statistics import load_records, save_records


class Scoring(Protocol):
    """Records are what a metric keeps of each scan or image; runs are one such list for each training seed."""

    @property
    def headline(self) -> str:
        """The score that verdicts are about unless another is named."""
        ...

    @property
    def compared(self) -> tuple[str, ...]:
        """Scores whose paired differences a comparison shows."""
        ...

    @property
    def unit(self) -> str:
        """What is independent of each other, in the plural: intervals are drawn over it."""
        ...

    @property
    def rule(self) -> str:
        """How scores are counted where that is a choice, in a sentence; may be empty."""
        ...

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raises InputError unless there is a score of this name."""
        ...

    def higher_is_better(self, name: str) -> bool | None:
        """None where no score has this name."""
        ...

    def count(self, records: Sequence[Any]) -> int:
        """How many independent units the records are of."""
        ...

    def scores(self, records: Sequence[Any]) -> dict[str, float]: ...

    def intervals(self, runs: Sequence[Any], *, samples: int) -> dict[str, Interval]: ...

    def paired(
        self, baseline: Sequence[Any], candidate: Sequence[Any], *, metric: str, margin: float, samples: int
    ) -> PairedDifference: ...

    def confusions(self, records: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
        """(true class, predicted class, images) where that is what records tell, else nothing."""
        ...

    def save(self, records: Sequence[Any], path: Path) -> None: ...

    def load(self, path: Path) -> list[Any]: ...


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
