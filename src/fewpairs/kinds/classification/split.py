"""Split into training, validation and test images, stratified by class."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewpairs.data.files import CasePattern
from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.data.patients import patient_notes, stems_of
from fewpairs.data.split import Split
from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource, listed

SPLIT_FIELDS = (
    "validation",
    "folds",
    "fold",
    "fraction",
    "seed",
    "limit",
    "validation_limit",
    "images_per_class",
    "case_pattern",
)
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


def leaks(source: LabelledSource, split: LabelledSplit, pattern: str | None) -> tuple[str, ...]:
    """Return a sentence if names say that one patient has images on both sides."""
    if not len(split.train) or source.file(int(split.train[0])) is None:
        return ()
    sides = {"training": image_stems(source, split.train), "validation": image_stems(source, split.validation)}
    return patient_notes(sides, "data.split.case_pattern", pattern=pattern, drawn=True)


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
        if split.case_pattern is None:
            chosen = _stratified(source, _shuffled(source, train, rng), split.ratio, split.fold)
        else:
            chosen = _held_out_cases(source, train, split, rng)
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


def _held_out_cases(source: LabelledSource, train: Indices, split: Split, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of the images in the cases of this fold, which are stratified by their main class."""
    case_of = CasePattern(split.case_pattern)
    cases, case = np.unique([case_of(stem) for stem in image_stems(source, train)], return_inverse=True)
    if len(cases) < 2:
        raise InputError(f"data.split.case_pattern={split.case_pattern!r} finds a single case, {str(cases[0])!r}")
    images = np.zeros((len(cases), len(source.classes)), np.int64)
    np.add.at(images, (case, source.labels[train]), 1)
    mixed = rng.permutation(len(cases))
    ordered = mixed[np.argsort(images.argmax(axis=1)[mixed], kind="stable")]
    count = min(len(cases) - 1, max(1, round(split.share * len(cases))))
    split.check_fold(len(cases) // count)
    start = np.arange(count) * (len(cases) // count) + split.fold
    chosen = np.zeros(len(source), bool)
    chosen[train[np.isin(case, ordered[start])]] = True
    lost = np.setdiff1d(source.labels[train], source.labels[train][~chosen[train]])
    if len(lost):
        raise InputError(
            f"data.split.case_pattern={split.case_pattern!r} and fold {split.fold} leave no training image of "
            f"{listed([source.classes[label] for label in lost])}; choose another fold or seed"
        )
    return chosen


def image_stems(source: LabelledSource, indices: Indices) -> list[str]:
    """Return the names of images without folders and suffix."""
    return stems_of([source.id(index) for index in indices.tolist()])


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
