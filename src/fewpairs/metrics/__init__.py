"""Scores that can be trusted: streamed from records of single scans or images, with intervals over them."""

from fewpairs.metrics.bootstrap import intervals, paired
from fewpairs.metrics.classification import ClassificationMetric
from fewpairs.metrics.detection import CocoMetric
from fewpairs.metrics.detection_bootstrap import detection_intervals, detection_paired
from fewpairs.metrics.detection_records import (
    PictureRecord,
    load_picture_records,
    merge_picture_records,
    save_picture_records,
)
from fewpairs.metrics.detection_scores import detection_scores
from fewpairs.metrics.detection_scoring import DetectionScoring
from fewpairs.metrics.empty import EmptyRule
from fewpairs.metrics.image_bootstrap import image_intervals, image_paired
from fewpairs.metrics.image_records import (
    ImageRecord,
    confident_mistakes,
    confusions,
    image_records,
    load_image_records,
    merge_image_records,
    save_image_records,
)
from fewpairs.metrics.image_scores import image_scores
from fewpairs.metrics.resampling import Interval, PairedDifference
from fewpairs.metrics.scene_records import SceneRecord, scene_record
from fewpairs.metrics.scene_scores import scene_scores
from fewpairs.metrics.score import (
    CLASSIFICATION_SCORES,
    DETECTION_SCORES,
    FEATURE_SCORES,
    SCORES,
    SEGMENTATION_SCORES,
    SEMANTIC_SCORES,
    Score,
    find_score,
)
from fewpairs.metrics.scores import compute_scores, scores_by_case
from fewpairs.metrics.scoring import ClassificationScoring, Scoring, SegmentationScoring
from fewpairs.metrics.segmentation import SegmentationMetric
from fewpairs.metrics.semantic import SemanticMetric, SemanticScoring
from fewpairs.metrics.statistics import (
    ScanStatistics,
    load_records,
    merge_records,
    save_records,
    scan_statistics,
)

__all__ = [
    "CLASSIFICATION_SCORES",
    "DETECTION_SCORES",
    "FEATURE_SCORES",
    "SCORES",
    "SEGMENTATION_SCORES",
    "SEMANTIC_SCORES",
    "ClassificationMetric",
    "ClassificationScoring",
    "CocoMetric",
    "DetectionScoring",
    "EmptyRule",
    "ImageRecord",
    "Interval",
    "PairedDifference",
    "PictureRecord",
    "ScanStatistics",
    "SceneRecord",
    "Score",
    "Scoring",
    "SegmentationMetric",
    "SegmentationScoring",
    "SemanticMetric",
    "SemanticScoring",
    "compute_scores",
    "confident_mistakes",
    "confusions",
    "detection_intervals",
    "detection_paired",
    "detection_scores",
    "find_score",
    "image_intervals",
    "image_paired",
    "image_records",
    "image_scores",
    "intervals",
    "load_image_records",
    "load_picture_records",
    "load_records",
    "merge_image_records",
    "merge_picture_records",
    "merge_records",
    "paired",
    "save_image_records",
    "save_picture_records",
    "save_records",
    "scan_statistics",
    "scene_record",
    "scene_scores",
    "scores_by_case",
]
