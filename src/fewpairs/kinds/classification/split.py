"""Training, validation and test images: the parts of a data set, or shares of its training images, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from fewpairs.data.files import listed
from fewpairs.errors import InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource

ValidateOn = Literal["auto", "validation", "test", "train"]

_SMALLEST = 1e-4


@dataclass(frozen=True, kw_only=True)
class LabelledShares:
    """Which images train, which validate and which are kept for the end.

    Attributes:
        validate_on: `validation` or `test`, a part that the data set has; `train`, a share held out of the training
            images; `auto`, the first of validation, test and train that there is.
        fraction: share of the training images, the same of every class, that `train` holds out.
        fold: which share: fraction 0.2 has the folds 0 to 4, of which no two have an image in common.
        seed: of everything drawn here.
        images_per_class: at most so many training images of each class.
        limit: at most so many training images, spread over the classes as they are.
        validation_limit: the same for validation.
    """

    validate_on: ValidateOn = "auto"
    fraction: float = 0.2
    fold: int = 0
    seed: int = 0
    images_per_class: int | None = None
    limit: int | None = None
    validation_limit: int | None = None

    def __post_init__(self) -> None:
        if self.validate_on not in get_args(ValidateOn):
            raise InputError(f"validate_on={self.validate_on!r}: allowed are {', '.join(get_args(ValidateOn))}")
        if not _SMALLEST <= self.fraction <= 1 - _SMALLEST:
            raise InputError(
                f"fraction={self.fraction}: the share held out for validation lies between 0 and 1 "
                f"(at least {_SMALLEST} from either)"
            )
        folds = int(1 / self._share)
        if not 0 <= self.fold < folds:
            raise InputError(f"fold={self.fold}: with fraction={self.fraction} the folds are 0 to {folds - 1}")
        if self.seed < 0:
            raise InputError(f"seed={self.seed}: give 0 or a positive number")
        for name in ("images_per_class", "limit", "validation_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: give at least 1, or leave it out for all images")

    @property
    def _share(self) -> Fraction:
        """`fraction` as a ratio of small whole numbers, so that folds meet exactly."""
        return Fraction(self.fraction).limit_denominator(round(1 / _SMALLEST))


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """Numbers of the images of a source, sorted; no image is in two of them."""

    train: Indices
    validation: Indices
    test: Indices | None
    """The test part, where there is one that does not validate."""


def split_labelled(source: LabelledSource, shares: LabelledShares | None = None) -> LabelledSplit:
    """The images of `source` that train, validate and test. The same arguments give the same images anywhere.

    A share is stratified: of each class it holds its fraction of the images, rounded down or up, and never all.

    Raises:
        InputError: the data set lacks the part to train or validate on, or a limit leaves a class without images.
    """
    shares = shares or LabelledShares()
    rng = np.random.default_rng(shares.seed)
    train, part = source.indices("train"), _validated(source, shares)
    if part == "train":
        chosen = _stratified(source, _shuffled(source, train, rng), shares._share, shares.fold)
        train, validation = train[~chosen[train]], train[chosen[train]]
        if not len(validation):
            raise InputError(
                f"fraction={shares.fraction} of {len(train)} training images leaves none to validate on; raise it"
            )
    else:
        validation = source.indices(part)
    train = _limited(source, train, shares, rng)
    if shares.validation_limit is not None and shares.validation_limit < len(validation):
        validation = spread(source, validation, shares.validation_limit, rng)
    kept = "test" in source.parts and part != "test"
    return LabelledSplit(train, validation, source.indices("test") if kept else None)


def _validated(source: LabelledSource, shares: LabelledShares) -> str:
    if shares.validate_on == "auto":
        return next(part for part in ("validation", "test", "train") if part in source.parts)
    if shares.validate_on not in source.parts:
        raise InputError(
            f"validate_on={shares.validate_on!r}: {source.name} has {listed(list(source.parts))}; "
            "validate_on='train' holds out a share of the training images"
        )
    return shares.validate_on


def _shuffled(source: LabelledSource, indices: Indices, rng: np.random.Generator) -> Indices:
    """`indices` class by class, in random order within each."""
    mixed = rng.permutation(indices)
    return mixed[np.argsort(source.labels[mixed], kind="stable")]


def _stratified(source: LabelledSource, ordered: Indices, share: Fraction, fold: int) -> np.ndarray:
    """For every image of the source whether it is in this fold of `ordered`, whose classes lie together.

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


def _limited(source: LabelledSource, train: Indices, shares: LabelledShares, rng: np.random.Generator) -> Indices:
    """The training images that the limits leave, sorted."""
    if shares.images_per_class is not None:
        ordered = _shuffled(source, train, rng)
        labels = source.labels[ordered]
        first = np.searchsorted(labels, labels)
        train = np.sort(ordered[np.arange(len(ordered)) - first < shares.images_per_class])
    if shares.limit is not None and shares.limit < len(train):
        train = spread(source, train, shares.limit, rng)
        counts = np.bincount(source.labels[train], minlength=len(source.classes))
        lost = [source.classes[label] for label in np.flatnonzero(counts == 0)]
        if lost:
            raise InputError(f"limit={shares.limit} leaves no training image of {listed(lost)}; raise it")
    return train


def spread(source: LabelledSource, indices: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` of the images, of each class its share rounded down or up, sorted."""
    ordered = _shuffled(source, indices, rng)
    before = np.arange(len(ordered), dtype=np.int64) * count // len(ordered)
    after = np.arange(1, len(ordered) + 1, dtype=np.int64) * count // len(ordered)
    return np.sort(ordered[after > before])
