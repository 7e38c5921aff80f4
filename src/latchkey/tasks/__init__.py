"""Tasks: loss, prediction and metric of one kind of question. They know no model, data set or loop."""

from latchkey.tasks.classification import Classification
from latchkey.tasks.detection import Detection
from latchkey.tasks.losses import LOSSES, SegmentationLoss, exclusive_target
from latchkey.tasks.segmentation import Segmentation
from latchkey.tasks.semantic import Semantic

__all__ = ["LOSSES", "Classification", "Detection", "Segmentation", "SegmentationLoss", "Semantic", "exclusive_target"]
