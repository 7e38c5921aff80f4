"""Experiments: files -> model -> attention -> task -> metrics, one file for each kind.

The frozen dataclasses say what an experiment is; `build` puts it together. This is the only package that sees models,
tasks, data and training at once.
"""

from fewpairs.experiment.base import Built, Experiment
from fewpairs.experiment.classification import ClassificationExperiment
from fewpairs.experiment.detection import DetectionExperiment
from fewpairs.experiment.dino import DinoExperiment
from fewpairs.experiment.running import PRETRAINED_NOTE, Weights, evaluate, train, weights_file
from fewpairs.experiment.segmentation import SegmentationExperiment
from fewpairs.experiment.semantic import SemanticExperiment

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

__all__ = [
    "KINDS",
    "PRETRAINED_NOTE",
    "Built",
    "ClassificationExperiment",
    "DetectionExperiment",
    "DinoExperiment",
    "Experiment",
    "SegmentationExperiment",
    "SemanticExperiment",
    "Weights",
    "evaluate",
    "train",
    "weights_file",
]
