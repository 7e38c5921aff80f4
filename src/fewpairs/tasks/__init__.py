"""Tasks: loss, prediction and metric of one kind of question. They know no model, data set or loop."""

from fewpairs.tasks.classification import Classification
from fewpairs.tasks.detection import Detection
from fewpairs.tasks.losses import LOSSES, SegmentationLoss, exclusive_target
from fewpairs.tasks.segmentation import Segmentation
from fewpairs.tasks.semantic import Semantic

__all__ = ["LOSSES", "Classification", "Detection", "Segmentation", "SegmentationLoss", "Semantic", "exclusive_target"]
