"""Photographs with label maps: layouts on disk, splits, views and augmentation, and what training iterates over."""

from fewpairs.data.semantic.augment import SemanticAugment
from fewpairs.data.semantic.check import SceneOverview, check_scenes, look_over_scenes
from fewpairs.data.semantic.dataset import Scenes, SemanticDataset, SemanticSample, collate_labels
from fewpairs.data.semantic.layouts import SEMANTIC_KINDS, SemanticKind, SemanticOptions, open_semantic
from fewpairs.data.semantic.names import palette
from fewpairs.data.semantic.source import SceneFiles, SemanticSource
from fewpairs.data.semantic.split import SemanticShares, SemanticSplit, split_semantic
from fewpairs.data.semantic.view import SemanticView

__all__ = [
    "SEMANTIC_KINDS",
    "SceneFiles",
    "SceneOverview",
    "Scenes",
    "SemanticAugment",
    "SemanticDataset",
    "SemanticKind",
    "SemanticOptions",
    "SemanticSample",
    "SemanticShares",
    "SemanticSource",
    "SemanticSplit",
    "SemanticView",
    "check_scenes",
    "collate_labels",
    "look_over_scenes",
    "open_semantic",
    "palette",
    "split_semantic",
]
