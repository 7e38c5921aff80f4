"""Scores that can be trusted: streamed from records of single scans or images, with intervals over them."""

from latchkey.metrics.bootstrap import intervals, paired
from latchkey.metrics.classification import ClassificationMetric
from latchkey.metrics.detection import CocoMetric
from latchkey.metrics.detection_bootstrap import detection_intervals, detection_paired
from latchkey.metrics.detection_records import (
    PictureRecord,
    load_picture_records,
    merge_picture_records,
    save_picture_records,
)
from latchkey.metrics.detection_scores import detection_scores
from latchkey.metrics.detection_scoring import DetectionScoring
from latchkey.metrics.empty import EmptyRule
from latchkey.metrics.image_bootstrap import image_intervals, image_paired
from latchkey.metrics.image_records import (
    ImageRecord,
    confident_mistakes,
    confusions,
    image_records,
    load_image_records,
    merge_image_records,
    save_image_records,
)
from latchkey.metrics.image_scores import image_scores
from latchkey.metrics.resampling import Interval, PairedDifference
from latchkey.metrics.scene_records import SceneRecord, scene_record
from latchkey.metrics.scene_scores import scene_scores
from latchkey.metrics.score import (
    CLASSIFICATION_SCORES,
    DETECTION_SCORES,
    FEATURE_SCORES,
    SCORES,
    SEGMENTATION_SCORES,
    SEMANTIC_SCORES,
    Score,
    find_score,
)
from latchkey.metrics.scores import compute_scores, scores_by_case
from latchkey.metrics.scoring import ClassificationScoring, Scoring, SegmentationScoring
from latchkey.metrics.segmentation import SegmentationMetric
from latchkey.metrics.semantic import SemanticMetric, SemanticScoring
from latchkey.metrics.statistics import (
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
