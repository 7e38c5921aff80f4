"""Pictures with boxes and masks: layouts on disk and their checks, views and augmentation, files out again."""

from fewpairs.data.detection.dataset import DetectionDataset, DetectionSample, PictureItems, collate_pictures
from fewpairs.data.detection.findings import FINDINGS, DamagedAnnotationsError, DetectionCheck
from fewpairs.data.detection.layouts import DETECTION_KINDS, DetectionKind, detect_detection, open_detection
from fewpairs.data.detection.options import DetectionOptions
from fewpairs.data.detection.source import DetectionRecord, DetectionRecords, DetectionSource
from fewpairs.data.detection.view import DetectionAugment, DetectionView

__all__ = [
    "DETECTION_KINDS",
    "FINDINGS",
    "DamagedAnnotationsError",
    "DetectionAugment",
    "DetectionCheck",
    "DetectionDataset",
    "DetectionKind",
    "DetectionOptions",
    "DetectionRecord",
    "DetectionRecords",
    "DetectionSample",
    "DetectionSource",
    "DetectionView",
    "PictureItems",
    "collate_pictures",
    "detect_detection",
    "open_detection",
]
