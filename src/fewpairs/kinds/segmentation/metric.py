"""The metric object that an evaluation feeds, scan by scan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.bootstrap import intervals
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import ScanStatistics, merge_records, scan_statistics
from fewpairs.kinds.segmentation.scores import compute_scores, scores_by_case
from fewpairs.scoring.interval import Interval
from fewpairs.types import Scan


class SegmentationMetric:
    """Collects the statistics of whole scans; every score is made from their sums at the end.

    `rule` says what an empty mask counts for. `surface=False` leaves out HD95 and the Kaggle score, which cost most of
    the time: sensible while training. Masks may overlap; see `ScanStatistics` for what background then means.
    """

    def __init__(self, classes: Sequence[str], *, rule: EmptyRule = EmptyRule.STRICT, surface: bool = True) -> None:
        if not classes or len(set(classes)) != len(classes):
            raise InputError(f"classes must be different names, at least one; got {list(classes)}")
        self.classes = tuple(classes)
        self.rule = EmptyRule(rule)
        self.surface = surface
        self._records: list[ScanStatistics] = []

    def update(self, prediction: Tensor, scan: Scan) -> ScanStatistics:
        """Count one scan; `prediction` is `[s k H W]` bool at the scan's native size. Returns its record."""
        record = scan_statistics(
            prediction,
            scan.mask,
            scan.spacing,
            scan=scan.id,
            case=scan.case,
            classes=self.classes,
            surface=self.surface,
        )
        self._records.append(record)
        return record

    def merge(self, records: Iterable[ScanStatistics]) -> None:
        """Take in records that another process counted; scans that are here already must agree and count once."""
        self._records = merge_records([*self._records, *records])

    @property
    def records(self) -> list[ScanStatistics]:
        """One record a scan, sorted by case and scan."""
        return merge_records(self._records)

    def compute(self) -> dict[str, float]:
        """Every score by name (see `SCORES`), per class as `name/<class>`; NaN where a score is not defined."""
        return compute_scores(self._records, rule=self.rule)

    def by_case(self) -> dict[str, dict[str, float]]:
        """Every score of every case on its own."""
        return scores_by_case(self._records, rule=self.rule)

    def intervals(self, samples: int = 1000, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
        """Every score with its bootstrap interval over cases."""
        return intervals(self._records, samples=samples, seed=seed, level=level, rule=self.rule)
