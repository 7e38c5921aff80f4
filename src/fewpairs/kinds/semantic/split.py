"""Splits into training and validation images: parts of the data set, or a held-out share of its training cases."""

from __future__ import annotations

from dataclasses import dataclass

from fewpairs.data.identity import DataIdentity, PartIdentity
from fewpairs.data.patients import patient_notes, stems_of
from fewpairs.data.split import Split, held_out_units, random_subset
from fewpairs.errors import InputError
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource

SPLIT_FIELDS = ("validation", "folds", "fold", "fraction", "seed", "limit", "validation_limit")
"""The fields of `data.split` that apply to semantic segmentation."""


@dataclass(frozen=True, slots=True)
class SemanticSplit:
    """The training and validation images, sorted by name, and the part `on` that validates."""

    train: tuple[ImageFiles, ...]
    validation: tuple[ImageFiles, ...]
    on: str


def identity(split: SemanticSplit) -> DataIdentity:
    """Return the identity of the images of both sides and of the bytes of their masks."""
    both = (((one.id, one.mask.read_bytes()) for one in side) for side in (split.train, split.validation))
    return DataIdentity(*(PartIdentity.of(entries) for entries in both))


def leaks(split: SemanticSplit, pattern: str | None) -> tuple[str, ...]:
    """Return a sentence if names say that one patient has images on both sides."""
    sides = {"training": split.train, "validation": split.validation}
    stems = {name: stems_of([one.image.name for one in files]) for name, files in sides.items()}
    return patient_notes(stems, "data.source.case_pattern", pattern=pattern, drawn=True)


def split_semantic(source: SemanticSource, split: Split) -> SemanticSplit:
    """Split the images of a source. A held-out share never divides a case.

    Raises:
        InputError: the part or the fold does not exist, or there is only one case.
    """
    on = split.validated(source.parts, source.name)
    train, validation = source.part("train"), source.part(on)
    if on == "train":
        held = _held_out(source, split)
        validation = tuple(one for one in train if one.case in held)
        train = tuple(one for one in train if one.case not in held)
    return SemanticSplit(
        _limited(train, split.limit, split.seed), _limited(validation, split.validation_limit, split.seed), on
    )


def _held_out(source: SemanticSource, split: Split) -> set[str]:
    cases = sorted({one.case for one in source.part("train")})
    if len(cases) < 2:
        raise InputError(
            f"{source.name} has a single case, {cases[0]!r}, of which no share can be held out; name another part with "
            "data.split.validation, or check data.source.case_pattern"
        )
    return {cases[place] for place in held_out_units(len(cases), split)}


def _limited(files: tuple[ImageFiles, ...], limit: int | None, seed: int) -> tuple[ImageFiles, ...]:
    return tuple(files[place] for place in random_subset(len(files), limit, [seed, 1]))
