"""Kinds of experiment: one folder each, all of them with the contract of `kinds.kind`."""

from fewpairs.kinds.classification.experiment import ClassificationExperiment
from fewpairs.kinds.detection.experiment import DetectionExperiment
from fewpairs.kinds.kind import Experiment
from fewpairs.kinds.segmentation.experiment import SegmentationExperiment
from fewpairs.kinds.self_distillation.experiment import DinoExperiment
from fewpairs.kinds.semantic.experiment import SemanticExperiment

KINDS: dict[str, type[Experiment]] = {
    kind.kind: kind
    for kind in (
        SegmentationExperiment,
        ClassificationExperiment,
        DinoExperiment,
        DetectionExperiment,
        SemanticExperiment,
    )
}
"""Every kind of experiment, by what a YAML file calls it."""
