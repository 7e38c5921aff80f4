"""Kinds of experiment: each is one folder with the contract of `kinds.kind`, imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fewpairs.errors import InputError, nearest

if TYPE_CHECKING:
    from fewpairs.kinds.kind import Experiment

KINDS = {
    "segmentation": "fewpairs.kinds.segmentation.experiment:SegmentationExperiment",
    "classification": "fewpairs.kinds.classification.experiment:ClassificationExperiment",
    "self-distillation": "fewpairs.kinds.self_distillation.experiment:DinoExperiment",
    "detection": "fewpairs.kinds.detection.experiment:DetectionExperiment",
    "semantic": "fewpairs.kinds.semantic.experiment:SemanticExperiment",
}
"""`module:class` of every kind of experiment, by what a YAML file calls it."""

DEFAULT_KIND = "segmentation"
"""The kind of a YAML file that names none."""


def experiment_kind(name: str) -> type[Experiment]:
    """The class of a kind of experiment, by its name in `KINDS`.

    Raises:
        InputError: no kind has this name.
    """
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(f"kind={name!r} is no kind of experiment; {nearest(str(name), KINDS)}")
    module, _, attribute = KINDS[name].partition(":")
    kind: type[Experiment] = getattr(import_module(module), attribute)
    return kind
