"""Kinds of experiment: each is one folder with the contract of `kinds.kind`, imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fewpairs.errors import InputError, nearest
from fewpairs.kinds.classification.flags import FLAGS as CLASSIFICATION_FLAGS
from fewpairs.kinds.detection.flags import FLAGS as DETECTION_FLAGS
from fewpairs.kinds.flags import Flag
from fewpairs.kinds.segmentation.flags import FLAGS as SEGMENTATION_FLAGS
from fewpairs.kinds.semantic.flags import FLAGS as SEMANTIC_FLAGS

if TYPE_CHECKING:
    from fewpairs.kinds.kind import Experiment

KINDS = {
    "segmentation": "fewpairs.kinds.segmentation.experiment:SegmentationExperiment",
    "classification": "fewpairs.kinds.classification.experiment:ClassificationExperiment",
    "self-distillation": "fewpairs.kinds.self_distillation.experiment:SelfDistillationExperiment",
    "detection": "fewpairs.kinds.detection.experiment:DetectionExperiment",
    "semantic": "fewpairs.kinds.semantic.experiment:SemanticExperiment",
}
"""`module:class` of every kind of experiment, by what a YAML file calls it."""

PREDICTIONS: dict[str, tuple[str, tuple[Flag, ...]]] = {
    "segmentation": ("masks", SEGMENTATION_FLAGS),
    "classification": ("classes", CLASSIFICATION_FLAGS),
    "detection": ("objects", DETECTION_FLAGS),
    "semantic": ("label maps", SEMANTIC_FLAGS),
}
"""Predictions of each kind of run and their options of `fewpairs predict`; other kinds predict nothing."""

DEFAULT_KIND = "segmentation"
"""Kind of a YAML file without `kind`."""


def experiment_kind(name: str) -> type[Experiment]:
    """Return the class of a kind of experiment by its name in `KINDS`.

    Raises:
        InputError: no kind has this name.
    """
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(f"kind={name!r} is no kind of experiment; {nearest(str(name), KINDS)}")
    module, _, attribute = KINDS[name].partition(":")
    kind: type[Experiment] = getattr(import_module(module), attribute)
    return kind


def prediction_flags() -> dict[Flag, tuple[str, ...]]:
    """Map each option that not every kind has to the predictions that have it."""
    meant: dict[Flag, tuple[str, ...]] = {}
    for predicts, flags in PREDICTIONS.values():
        for flag in flags:
            meant[flag] = (*meant.get(flag, ()), predicts)
    return meant
