"""Split into training, validation and test images, stratified by class."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.data.split import Split
from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource, listed

SPLIT_FIELDS = ("validation", "folds", "fold", "fraction", "seed", "limit", "validation_limit", "images_per_class")
"""The fields of `data.split` that classification has."""


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """Sorted indices of disjoint sets of images of a source."""

    train: Indices
    validation: Indices
    test: Indices | None
    """Test part; None if there is none or if it is the validation part."""


def identity(source: LabelledSource, split: LabelledSplit) -> DataIdentity:
    """Return the identity of the images and classes of both sides."""
    both = (
        [(source.id(i), b"%d" % source.label(i)) for i in side.tolist()] for side in (split.train, split.validation)
    )
    return DataIdentity(*(PartIdentity.of(entries) for entries in both))


def split_labelled(source: LabelledSource, split: Split | None = None) -> LabelledSplit:
    """Return training, validation and test images of `source`; the same arguments give the same images.

    A share is stratified: it holds its fraction of the images of each class, rounded down or up, and never all.

    Raises:
        InputError: the data set lacks the part to train or validate on, or a limit leaves a class without images.
    """
    split = split or Split()
    rng = np.random.default_rng(split.seed)
    train, part = source.indices("train"), split.validated(source.parts, source.name)
    if part == "train":
        if split.ratio:
            split.check_fold(int(1 / split.ratio))
        chosen = _stratified(source, _shuffled(source, train, rng), split.ratio, split.fold)
        train, validation = train[~chosen[train]], train[chosen[train]]
        if not len(validation):
            raise InputError(
                f"data.split: the share {split.share:g} of {len(train)} training images leaves none to validate on; "
                "raise data.split.fraction"
            )
    else:
        validation = source.indices(part)
    train = _limited(source, train, split, rng)
    if split.validation_limit is not None and split.validation_limit < len(validation):
        validation = spread(source, validation, split.validation_limit, rng)
    kept = "test" in source.parts and part != "test"
    return LabelledSplit(train, validation, source.indices("test") if kept else None)


def _shuffled(source: LabelledSource, indices: Indices, rng: np.random.Generator) -> Indices:
    """Sort `indices` by class, in random order within each class."""
    mixed = rng.permutation(indices)
    return mixed[np.argsort(source.labels[mixed], kind="stable")]


def _stratified(source: LabelledSource, ordered: Indices, share: Fraction, fold: int) -> np.ndarray:
    """Return the mask of the images of the source in this fold of `ordered`, which is sorted by class.

    The image in place r stands at r * share on a circle of length 1; fold j is an arc of length `share`. An arc as long
    as the step holds, of any n neighbours, n * share rounded down or up; and arcs side by side share no image.
    """
    p, q = share.numerator, share.denominator
    position = np.arange(len(ordered), dtype=np.int64) % q * p % q
    inside = (position >= q - (fold + 1) * p) & (position < q - fold * p)
    labels = source.labels[ordered]
    held, all_of = (np.bincount(values, minlength=len(source.classes)) for values in (labels[inside], labels))
    for label in np.flatnonzero((held == all_of) & (all_of > 0)):
        inside[np.flatnonzero(labels == label)[0]] = False
    chosen = np.zeros(len(source), bool)
    chosen[ordered[inside]] = True
    return chosen


def _limited(source: LabelledSource, train: Indices, split: Split, rng: np.random.Generator) -> Indices:
    """Apply the limits to the training images; the result is sorted."""
    if split.images_per_class is not None:
        ordered = _shuffled(source, train, rng)
        labels = source.labels[ordered]
        first = np.searchsorted(labels, labels)
        train = np.sort(ordered[np.arange(len(ordered)) - first < split.images_per_class])
    if split.limit is not None and split.limit < len(train):
        train = spread(source, train, split.limit, rng)
        counts = np.bincount(source.labels[train], minlength=len(source.classes))
        lost = [source.classes[label] for label in np.flatnonzero(counts == 0)]
        if lost:
            raise InputError(f"data.split.limit={split.limit} leaves no training image of {listed(lost)}; raise it")
    return train


def spread(source: LabelledSource, indices: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Draw `count` sorted images, in proportion to the classes (rounded down or up)."""
    ordered = _shuffled(source, indices, rng)
    before = np.arange(len(ordered), dtype=np.int64) * count // len(ordered)
    after = np.arange(1, len(ordered) + 1, dtype=np.int64) * count // len(ordered)
    return np.sort(ordered[after > before])
