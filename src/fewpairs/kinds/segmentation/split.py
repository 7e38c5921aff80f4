"""Splits into training and validation by case, because the scans of a case are not independent of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.patients import patient_notes
from fewpairs.data.split import Split
from fewpairs.errors import InputError, nearest

Table = NDArray[np.float64]

SPLIT_FIELDS = ("validation", "folds", "fold", "fraction", "seed", "limit", "cases")
"""The fields of `data.split` that apply to scans."""


class ScanInfo(Protocol):
    """The attributes of a scan that a split uses, as `fewpairs.kinds.segmentation.store.StoredScan` has them."""

    @property
    def id(self) -> str: ...
    @property
    def case(self) -> str: ...
    @property
    def empty(self) -> Sequence[bool]: ...


@dataclass(frozen=True, slots=True)
class CaseSplit:
    """Names of the training and validation cases.

    Raises:
        InputError: a case is in both, or one of the two is empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        check_split(self)


def leaks(scans: Iterable[ScanInfo], split: CaseSplit) -> tuple[str, ...]:
    """Return a sentence if every scan is a case of its own, but names say that a patient has scans on both sides."""
    scans = list(scans)
    if any(scan.case != scan.id for scan in scans):
        return ()
    return patient_notes(
        {"training": split.train, "validation": split.validation}, "data.source.case_pattern", drawn=True
    )


def check_split(split: CaseSplit, known: Iterable[str] | None = None) -> None:
    """Raise InputError if a case is in both sets, listed twice or not `known`, or if a set is empty."""
    train, validation = list(split.train), list(split.validation)
    known = None if known is None else list(known)
    unknown = [] if known is None else [case for case in (*train, *validation) if case not in known]
    if unknown:
        raise InputError(
            f"the split names the case {unknown[0]!r}, which the data set does not have; "
            f"{nearest(unknown[0], known or [])}"
        )
    both = sorted(set(train) & set(validation))
    if both:
        raise InputError(
            f"case {both[0]!r} is in both train and validation ({len(both)} such); its scores would "
            "be too good: split by case"
        )
    for name, cases in (("train", train), ("validation", validation)):
        if not cases:
            raise InputError(f"the split has no {name} cases")
        repeated = sorted({case for case in cases if cases.count(case) > 1})
        if repeated:
            raise InputError(f"case {repeated[0]!r} is listed twice in {name}")


def split_scans(scans: Iterable[ScanInfo], split: Split) -> CaseSplit:
    """Split the cases by the settings `split`.

    Raises:
        InputError: scans have no such part, a case is unknown, or the limit or fold is impossible.
    """
    if split.validation not in ("auto", "train"):
        raise InputError(f"data.split.validation={split.validation!r}: scans have no parts; allowed are auto and train")
    scans = list(scans)
    names = list(dict.fromkeys(scan.case for scan in scans))
    if split.limit is not None and not 2 <= split.limit <= len(names):
        raise InputError(f"data.split.limit={split.limit}: there are {len(names)} cases; allowed are 2 to {len(names)}")
    kept = set(names[: split.limit])
    scans = [scan for scan in scans if scan.case in kept]
    if split.cases:
        return split_listed(scans, split.cases)
    if split.fraction is None:
        return split_cases(scans, folds=split.folds, fold=split.fold, seed=split.seed)
    if split.fold:
        raise InputError(f"data.split.fold={split.fold}: a fraction of the cases has no folds; use data.split.folds")
    return split_fraction(scans, validation=split.fraction, seed=split.seed)


def split_cases(scans: Iterable[ScanInfo], *, folds: int = 5, fold: int = 0, seed: int = 0) -> CaseSplit:
    """Split the cases for cross-validation: fold `fold` of `folds` validates and the others train.

    The folds are balanced in the number of cases and of slices with and without a class: cases are sorted by their
    share of empty slices, and each block of `folds` neighbours is distributed over the folds such that they are best
    balanced, with ties drawn from `seed`. Every case validates in exactly one fold.

    Raises:
        InputError: there are fewer than 2 folds, no such fold, or fewer cases than folds.
    """
    counts = _counts(scans)
    if folds < 2:
        raise InputError(f"folds={folds}: at least 2 are needed")
    if not 0 <= fold < folds:
        raise InputError(f"fold={fold}: with folds={folds} the folds are 0 to {folds - 1}")
    if len(counts) < folds:
        raise InputError(f"folds={folds}: the data set has only {len(counts)} cases, and each fold needs one")
    assigned = _assign(counts, folds, seed)
    return CaseSplit(
        tuple(case for case in counts if assigned[case] != fold),
        tuple(case for case in counts if assigned[case] == fold),
    )


def split_fraction(scans: Iterable[ScanInfo], *, validation: float = 0.2, seed: int = 0) -> CaseSplit:
    """Hold out a share `validation` of the cases (at least 1, not all), stratified by their share of empty slices.

    Raises:
        InputError: the share is not between 0 and 1, or there is only one case.
    """
    counts = _counts(scans)
    if not 0 < validation < 1:
        raise InputError(f"validation={validation}: give a share of the cases between 0 and 1")
    if len(counts) < 2:
        raise InputError("the data set has a single case; a split needs at least two")
    wanted = min(len(counts) - 1, max(1, round(validation * len(counts))))
    rng = np.random.default_rng(seed)
    shuffled = [list(counts)[i] for i in rng.permutation(len(counts))]
    ranked = sorted(shuffled, key=lambda case: counts[case][1] / max(1, sum(counts[case])))
    chosen = {ranked[int(rng.choice(part))] for part in np.array_split(np.arange(len(ranked)), wanted)}
    return CaseSplit(
        tuple(case for case in counts if case not in chosen), tuple(case for case in counts if case in chosen)
    )


def split_listed(scans: Iterable[ScanInfo], validation: Sequence[str], train: Sequence[str] | None = None) -> CaseSplit:
    """Use the named cases for validation and, for training, the named ones or all others.

    Raises:
        InputError: a case is unknown or in both sets.
    """
    known = list(_counts(scans))
    others = tuple(case for case in known if case not in set(validation))
    split = CaseSplit(others if train is None else tuple(train), tuple(validation))
    check_split(split, known)
    return split


def _counts(scans: Iterable[ScanInfo]) -> dict[str, tuple[int, int]]:
    """Count the slices with and without a class of each case."""
    counts: dict[str, tuple[int, int]] = {}
    for scan in scans:
        full, empty = counts.get(scan.case, (0, 0))
        missing = sum(bool(flag) for flag in scan.empty)
        counts[scan.case] = full + len(scan.empty) - missing, empty + missing
    return counts


def _assign(counts: dict[str, tuple[int, int]], folds: int, seed: int) -> dict[str, int]:
    """Assign a fold to every case, each fold once in a block of `folds` cases with similar shares of empty slices."""
    rng = np.random.default_rng(seed)
    names = list(counts)
    table = np.array([counts[name] for name in names], np.float64)
    total = np.maximum(table.sum(axis=0), 1)
    ranked = sorted(
        rng.permutation(len(names)).tolist(), key=lambda index: table[index, 1] / max(1, table[index].sum())
    )
    blocks = [ranked[start : start + folds] for start in range(0, len(ranked), folds)]
    full, rest = [block for block in blocks if len(block) == folds], [block for block in blocks if len(block) < folds]
    filled, assigned = np.zeros((folds, 2)), {}
    for block in [full[i] for i in rng.permutation(len(full))] + rest:
        free = rng.permutation(folds).tolist()
        for index in rng.permutation(block).tolist():
            best = min(free, key=lambda fold: _unevenness(filled, fold, table[index], total))
            free.remove(best)
            filled[best] += table[index]
            assigned[names[index]] = best
    return assigned


def _unevenness(filled: Table, fold: int, added: Table, total: Table) -> float:
    """Return the spread between folds, averaged over both kinds of slices, after adding `added` to `fold`."""
    trial = filled.copy()
    trial[fold] += added
    return float((trial / total).std(axis=0).mean())
