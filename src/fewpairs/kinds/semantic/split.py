"""Which images train and which validate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.source import SceneFiles, SemanticSource

ValidateOn = Literal["auto", "val", "test", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticShares:
    """How images are dealt out.

    Attributes:
        validate_on: the part that validates; `train` holds out a share of the training images, whole cases of it;
            `auto` takes the first of val, test and train that there is.
        fraction: share of the training cases that is held out.
        fold: which share: 0.2 has the folds 0 to 4, of which no two have a case in common.
        seed: of the split and of the limits.
        limit, validation_limit: at most so many images train and validate, drawn at random; None: all.
    """

    validate_on: ValidateOn = "auto"
    fraction: float = 0.2
    fold: int = 0
    seed: int = 0
    limit: int | None = None
    validation_limit: int | None = None

    def __post_init__(self) -> None:
        if self.validate_on not in get_args(ValidateOn):
            raise InputError(f"validate_on={self.validate_on!r}: allowed are {', '.join(get_args(ValidateOn))}")
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction={self.fraction}: the share that is held out lies between 0 and 1")
        for name, least in (("fold", 0), ("seed", 0), ("limit", 1), ("validation_limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name}={value}: give at least {least}")


@dataclass(frozen=True, slots=True)
class SemanticSplit:
    """The images of either side, sorted by name, and the part that validates."""

    train: tuple[SceneFiles, ...]
    validation: tuple[SceneFiles, ...]
    on: str


def split_semantic(source: SemanticSource, shares: SemanticShares) -> SemanticSplit:
    """Deals out the images of a source. No case is on both sides of a held-out share.

    Raises:
        InputError: a part that is not there, a fold that is not there, or a single case that cannot be divided.
    """
    on = shares.validate_on
    if on == "auto":
        on = next(part for part in ("val", "test", "train") if part in source.parts)
    train, validation = source.part("train"), source.part(on)
    if on == "train":
        held = _held_out(source, shares)
        validation = tuple(one for one in train if one.case in held)
        train = tuple(one for one in train if one.case not in held)
    return SemanticSplit(
        _limited(train, shares.limit, shares.seed), _limited(validation, shares.validation_limit, shares.seed), on
    )


def _held_out(source: SemanticSource, shares: SemanticShares) -> set[str]:
    cases = sorted({one.case for one in source.part("train")})
    if len(cases) < 2:
        raise InputError(
            f"{source.name} has a single case, {cases[0]!r}, of which no share can be held out; name another part with "
            "data.shares.validate_on, or check data.source.case_pattern"
        )
    count = min(len(cases) - 1, max(1, round(shares.fraction * len(cases))))
    folds = len(cases) // count
    if shares.fold >= folds:
        raise InputError(
            f"data.shares.fold={shares.fold}: {shares.fraction:g} of {len(cases)} cases leaves the folds 0 to "
            f"{folds - 1}"
        )
    order = np.random.default_rng(shares.seed).permutation(len(cases))
    return {cases[place] for place in order[shares.fold * count : (shares.fold + 1) * count]}


def _limited(files: tuple[SceneFiles, ...], limit: int | None, seed: int) -> tuple[SceneFiles, ...]:
    if limit is None or limit >= len(files):
        return files
    chosen = np.random.default_rng([seed, 1]).permutation(len(files))[:limit]
    return tuple(files[place] for place in sorted(chosen))
