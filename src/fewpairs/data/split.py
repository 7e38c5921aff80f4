"""Split into training and validation data: settings of every kind of experiment, and the draws that they share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError

Part = Literal["train", "validation", "test"]
Validation = Literal["auto", "train", "validation", "test"]
PARTS: tuple[str, ...] = get_args(Part)

_PART_WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trainset", "trn", "trainval"),
    "validation": ("val", "valid", "validation", "valset", "dev"),
    "test": ("test", "testing", "testset", "tst"),
}
"""Words for each part in the names of folders and files, and in tables, in any case."""
_BESIDE = {"set", "data", "dataset", "seg", "split", "part", "image", "images", "img", "imgs", "masks", "labels"}
"""Words that may stand beside that of a part in the name of its folder."""

SMALLEST = 1e-4
"""Smallest share that can be held out, and smallest share that can remain."""


def parts_in(name: str) -> set[str]:
    """Return the parts that the words of `name` mean: `train2017` has the training part, and `a_test` has the test."""
    words = _words(name)
    return {part for part, known in _PART_WORDS.items() if any(word in known for word in words)}


def part_of(name: str) -> str | None:
    """Return the part that a folder or a cell of a table is named after, such as `Training`, `valid` or `test_set`.

    A name with any other word, such as `train_station`, is that of no part.
    """
    found, known = parts_in(name), {word for words in _PART_WORDS.values() for word in words} | _BESIDE
    return next(iter(found)) if len(found) == 1 and all(word in known for word in _words(name)) else None


def part_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by their part; those of no part are left out."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if (part := part_of(name)) is not None:
            found.setdefault(part, []).append(name)
    return {part: found[part] for part in PARTS if part in found}


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case: `TrainSet` and `train_set2` are `train` and `set`."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


@dataclass(frozen=True, kw_only=True)
class Split:
    """Section `data.split` of the settings. A kind of experiment refuses the fields that it does not use.

    Attributes:
        validation: validation part: `validation` or `test` of the data set, `train` for a share that is held out of the
            training images, or `auto` for the first existing part of validation, test and train.
        train: training parts.
        folds: number of folds; 1/`folds` of the training data is held out.
        fold: index of the fold that is held out, from 0; folds have no case or image in common.
        fraction: share that is held out, instead of 1/`folds`.
        test_fraction: share that is kept for the test if the data set has no test part.
        seed: seed of all draws.
        limit: maximum number of training images; for scans, of training and validation cases together.
        validation_limit: maximum number of validation images.
        images_per_class: maximum number of training images of each class.
        cases: names of the validation cases, instead of a fold.
        case_pattern: regular expression for whole names of files without suffix, whose one group is the case (patient);
            a held-out share never divides a case.
    """

    validation: Validation = "auto"
    train: tuple[Part, ...] = ("train",)
    folds: int = 5
    fold: int = 0
    fraction: float | None = None
    test_fraction: float = 0.0
    seed: int = 0
    limit: int | None = None
    validation_limit: int | None = None
    images_per_class: int | None = None
    cases: tuple[str, ...] = ()
    case_pattern: str | None = None

    def __post_init__(self) -> None:
        for name in ("train", "cases"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.validation not in get_args(Validation):
            _refuse("validation", self.validation, f"allowed are {', '.join(get_args(Validation))}")
        if odd := [part for part in self.train if part not in PARTS]:
            _refuse("train", list(self.train), f"{odd[0]!r} is no part; allowed are {', '.join(PARTS)}")
        if not self.train or len(set(self.train)) != len(self.train):
            _refuse("train", list(self.train), "name different parts, one at least")
        if self.validation in self.train and self.validation != "train":
            _refuse("validation", self.validation, "this part is trained on; leave it out of data.split.train")
        if self.folds < 2:
            _refuse("folds", self.folds, "at least 2 are needed")
        if self.fraction is not None and self.fraction != 0 and not SMALLEST <= self.fraction <= 1 - SMALLEST:
            _refuse(
                "fraction", self.fraction, f"a share that is held out lies between 0 and 1 ({SMALLEST} from either)"
            )
        if not 0 <= self.test_fraction < 1:
            _refuse("test_fraction", self.test_fraction, "a share is at least 0 and below 1")
        if self.share + self.test_fraction >= 1:
            _refuse("test_fraction", self.test_fraction, f"with the share {self.share:g} it leaves nothing to train on")
        for name, least in (("fold", 0), ("seed", 0), ("limit", 1), ("validation_limit", 1), ("images_per_class", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                _refuse(name, value, f"give at least {least}" + (", or leave it out for all" if least else ""))
        if self.fraction is None:
            self.check_fold(self.folds)

    @property
    def share(self) -> float:
        """Share that is held out for validation."""
        return 1 / self.folds if self.fraction is None else self.fraction

    @property
    def ratio(self) -> Fraction:
        """Share as a ratio of small whole numbers, so that folds neither overlap nor leave gaps."""
        return Fraction(self.share).limit_denominator(round(1 / SMALLEST))

    @property
    def limits(self) -> str:
        """Limits as the end of a sentence; empty without limits."""
        words = {
            "images_per_class": "training images a class",
            "limit": "training images",
            "validation_limit": "others",
        }
        said = [f"{getattr(self, name)} {what}" for name, what in words.items() if getattr(self, name) is not None]
        return f"; at most {', '.join(said)}" if said else ""

    def check_fold(self, folds: int) -> None:
        """Raise InputError unless `fold` is below `folds`."""
        if self.fold >= folds:
            share = f"folds={self.folds}" if self.fraction is None else f"fraction={self.fraction:g}"
            _refuse("fold", self.fold, f"with {share} the folds are 0 to {folds - 1}")

    def refuse_others(self, kind: str, used: Collection[str]) -> None:
        """Raise InputError if a field is set that a kind of experiment does not use.

        Args:
            kind: name of the kind in the message.
            used: fields that the kind uses.
        """
        for field in fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                value = getattr(self, field.name)
                _refuse(field.name, value, f"{kind} has no such setting; leave it out (it has {', '.join(used)})")

    def validated(self, parts: Collection[str], name: str) -> str:
        """Return the name of the validation part of a data set.

        Args:
            parts: parts of the data set.
            name: name of the data set in messages.

        Raises:
            InputError: the data set does not have the part.
        """
        if self.validation == "auto":
            free = [part for part in ("validation", "test") if part in parts and part not in self.train]
            return free[0] if free else "train"
        if self.validation not in parts:
            there = ", ".join(parts)
            _refuse(
                "validation",
                self.validation,
                f"{name} has {there}; data.split.validation=train holds out a share of the training images",
            )
        return self.validation


def _refuse(name: str, value: object, why: str) -> None:
    shown = list(value) if isinstance(value, tuple) else value
    raise InputError(f"data.split.{name}={shown!r}: {why}")


def held_out_units(units: int, split: Split) -> NDArray[np.int64]:
    """Draw the indices of the units in the fold that is held out: at least one and not all, unsorted.

    Raises:
        InputError: there are fewer than two units, or the fold does not exist.
    """
    if units < 2 or split.share == 0:
        _refuse("validation", split.validation, f"no share of {units} can be held out (share {split.share:g})")
    count = min(units - 1, max(1, round(split.share * units)))
    split.check_fold(units // count)
    return np.random.default_rng(split.seed).permutation(units)[split.fold * count : (split.fold + 1) * count]


def random_subset(units: int, limit: int | None, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """Draw the sorted indices of at most `limit` units at random; None takes all."""
    if limit is None or limit >= units:
        return np.arange(units, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).permutation(units)[:limit])
