"""Scores of segmentations that can be trusted: streamed from sums, with a named rule for empty masks and intervals."""

from latchkey.metrics.bootstrap import Interval, PairedDifference, intervals, paired
from latchkey.metrics.empty import EmptyRule
from latchkey.metrics.scores import SCORES, Score, compute_scores, find_score, scores_by_case
from latchkey.metrics.segmentation import SegmentationMetric
from latchkey.metrics.statistics import (
    ScanStatistics,
    load_records,
    merge_records,
    save_records,
    scan_statistics,
)

__all__ = [
    "SCORES",
    "EmptyRule",
    "Interval",
    "PairedDifference",
    "ScanStatistics",
    "Score",
    "SegmentationMetric",
    "compute_scores",
    "find_score",
    "intervals",
    "load_records",
    "merge_records",
    "paired",
    "save_records",
    "scan_statistics",
    "scores_by_case",
]
