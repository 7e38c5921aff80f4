"""Pictures with boxes and masks: layouts on disk and their checks, views and augmentation, files out again."""

from latchkey.data.detection.findings import FINDINGS, DamagedAnnotationsError, DetectionCheck
from latchkey.data.detection.layouts import DETECTION_KINDS, DetectionKind, detect_detection, open_detection
from latchkey.data.detection.options import DetectionOptions
from latchkey.data.detection.source import DetectionRecord, DetectionRecords, DetectionSource

__all__ = [
    "DETECTION_KINDS",
    "FINDINGS",
    "DamagedAnnotationsError",
    "DetectionCheck",
    "DetectionKind",
    "DetectionOptions",
    "DetectionRecord",
    "DetectionRecords",
    "DetectionSource",
    "detect_detection",
    "open_detection",
]
