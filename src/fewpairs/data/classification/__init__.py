"""Labelled pictures: layouts on disk, splits, views and augmentation, and what training iterates over."""

from fewpairs.data.classification.augment import LabelledAugment, Mixing, deit_augment, small_augment
from fewpairs.data.classification.check import DamagedImagesError, check_images
from fewpairs.data.classification.dataset import LabelledChunks, LabelledCollate, LabelledDataset, LabelledSample
from fewpairs.data.classification.layouts import (
    LABELLED_KINDS,
    LabelledKind,
    LabelledOptions,
    detect_labelled,
    open_labelled,
)
from fewpairs.data.classification.source import LabelledSource
from fewpairs.data.classification.split import LabelledShares, LabelledSplit, split_labelled
from fewpairs.data.classification.view import IMAGENET_MEAN, IMAGENET_STD, LabelledView

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LABELLED_KINDS",
    "DamagedImagesError",
    "LabelledAugment",
    "LabelledChunks",
    "LabelledCollate",
    "LabelledDataset",
    "LabelledKind",
    "LabelledOptions",
    "LabelledSample",
    "LabelledShares",
    "LabelledSource",
    "LabelledSplit",
    "LabelledView",
    "Mixing",
    "check_images",
    "deit_augment",
    "detect_labelled",
    "open_labelled",
    "small_augment",
    "split_labelled",
]
