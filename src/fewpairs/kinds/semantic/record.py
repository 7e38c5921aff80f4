"""The record of one image: the confusion counts of its pixels, independent of the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.scoring.records import Record, is_index
from fewpairs.types import IGNORE


@dataclass(frozen=True, slots=True)
class SemanticRecord(Record):
    """The confusion counts of one image over its scored pixels."""

    what = "a segmented image"

    id: str
    case: str
    """The unit that is independent of others: a patient, or the image itself."""
    pairs: tuple[tuple[int, int, int], ...]
    """(true class, predicted class, pixels) for every pair that occurs, in ascending order. Pixels with non-finite
    outputs have the number of classes as their predicted class: they count as missed and as no other class."""
    classes: tuple[str, ...]
    """Names of the classes, the same for all images of an evaluation; written once for a whole file."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.id,)

    @property
    def unit(self) -> str:
        return self.case

    @classmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> SemanticRecord:
        pairs = data["pairs"]
        good = isinstance(data["id"], str) and isinstance(data["case"], str) and isinstance(pairs, list)
        if not good or not all(_is_pair(pair, len(classes)) for pair in pairs):
            raise DataError(f"image {data['id']!r} has fields of the wrong type or size for {len(classes)} classes")
        return cls(data["id"], data["case"], tuple((pair[0], pair[1], pair[2]) for pair in pairs), classes)


def _is_pair(pair: object, count: int) -> bool:
    if not isinstance(pair, list) or len(pair) != 3 or not all(type(value) is int for value in pair):
        return False
    true, predicted, pixels = pair
    return is_index(true, 0, count) and is_index(predicted, 0, count + 1) and bool(pixels > 0)


def semantic_record(prediction: Tensor, label: Tensor, *, id: str, case: str, classes: Sequence[str]) -> SemanticRecord:  # noqa: A002
    """Count the pixels of one image from predicted and true class indices `[H W]`, which may be `IGNORE`.

    Pixels without a true class are left out; a predicted `IGNORE` counts as missed.

    Raises:
        InputError: sizes differ, or a number is not a class.
    """
    if prediction.ndim != 2 or prediction.shape != label.shape:
        raise InputError(
            f"{id}: predicted labels {list(prediction.shape)} for true ones {list(label.shape)}; give [H W]"
        )
    count = len(classes)
    truth, found = label.cpu().numpy().astype(np.int64), prediction.cpu().numpy().astype(np.int64)
    scored = truth != IGNORE
    truth, found = truth[scored], found[scored]
    found = np.where(found == IGNORE, count, found)
    for what, values, end in (("true", truth, count), ("predicted", found, count + 1)):
        if values.size and not (values.min() >= 0 and values.max() < end):
            raise InputError(f"{id}: a {what} label is {values.max()}, but the {count} classes are 0 to {count - 1}")
    counts = np.bincount(truth * (count + 1) + found, minlength=count * (count + 1))
    pairs = tuple(
        (int(place) // (count + 1), int(place) % (count + 1), int(counts[place])) for place in counts.nonzero()[0]
    )
    return SemanticRecord(id, case, pairs, tuple(classes))


def confusions(records: Iterable[SemanticRecord]) -> tuple[tuple[int, int, int], ...]:
    """Sum (true class, predicted class, pixels) over all images without the pixels whose outputs are not finite."""
    counts: Counter[tuple[int, int]] = Counter()
    for record in records:
        for true, predicted, pixels in record.pairs:
            if predicted < len(record.classes):
                counts[true, predicted] += pixels
    return tuple((true, predicted, counts[true, predicted]) for true, predicted in sorted(counts))
