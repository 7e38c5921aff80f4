"""Tasks: loss, prediction and metric of one kind of question. They know no model, data set or loop."""

from latchkey.tasks.losses import LOSSES, SegmentationLoss, exclusive_target
from latchkey.tasks.segmentation import Segmentation

__all__ = ["LOSSES", "Segmentation", "SegmentationLoss", "exclusive_target"]
