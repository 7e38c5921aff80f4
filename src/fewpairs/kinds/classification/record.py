"""One record an image: all that any score of a classification needs, and nothing that depends on a batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.scoring.records import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a classifier made of one image.

    `rank`, `predicted`, `confidence` and `nll` are None together, where an output was not finite: such an image counts
    as wrong.
    """

    id: str
    label: int
    """Index of the true class."""
    rank: int | None
    """Place of the true class among the outputs, from 1; of equal outputs the class with the lower index comes first.
    So the prediction is right exactly when this is 1."""
    predicted: int | None
    """Index of the class with the highest output, the lowest such index."""
    confidence: float | None
    """Softmax of that class."""
    nll: float | None
    """Minus the natural logarithm of the true class's softmax."""
    classes: tuple[str, ...]
    """Names of the classes, the same for all images of an evaluation; written once for a whole file."""

    @property
    def right(self) -> bool:
        """Whether the true class has the highest output."""
        return self.rank == 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the classes; `from_dict` gives the equal record back."""
        return {name: getattr(self, name) for name in _STORED}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> ImageRecord:
        """The record that `to_dict` wrote. Raises DataError for missing, unknown or impossible fields."""
        if wrong := sorted(set(_STORED) ^ set(data)):
            raise DataError(f"it has the wrong fields: {', '.join(wrong)} (missing or unknown)")
        count, found = len(classes), [data[name] for name in ("rank", "predicted", "confidence", "nll")]
        whole = _is_index(data["rank"], 1, count + 1) and _is_index(data["predicted"], 0, count)
        numbers = all(isinstance(value, int | float) and 0 <= value < math.inf for value in found[2:])
        known = isinstance(data["id"], str) and _is_index(data["label"], 0, count)
        if not known or not (all(value is None for value in found) or (whole and numbers)):
            raise DataError(f"image {data['id']!r} has fields of the wrong type or size for {count} classes")
        return cls(**data, classes=classes)


_STORED = ("id", "label", "rank", "predicted", "confidence", "nll")


def _is_index(value: object, least: int, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end


def image_records(logits: Tensor, labels: Tensor, *, ids: Sequence[str], classes: tuple[str, ...]) -> list[ImageRecord]:
    """Judge `[s k]` outputs against `[s]` class indices, image by image, in float64.

    Raises InputError when sizes do not fit or labels are no class indices.
    """
    count = len(classes)
    if logits.ndim != 2 or logits.shape[1] != count:
        raise InputError(f"expected outputs [s {count}], one a class, got {list(logits.shape)}")
    if labels.shape != logits.shape[:1] or len(ids) != len(logits):
        raise InputError(
            f"{len(logits)} images need as many class indices and names, got labels {list(labels.shape)} and "
            f"{len(ids)} names"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels to score against must be class indices (whole numbers), got {labels.dtype}")
    values, truth = logits.detach().cpu().double().numpy(), labels.detach().cpu().long().numpy()
    if (wrong := np.flatnonzero((truth < 0) | (truth >= count))).size:
        raise InputError(f"image {ids[wrong[0]]!r} has label {truth[wrong[0]]}, but the classes are 0 to {count - 1}")
    finite = np.isfinite(values).all(axis=1)
    values = np.where(finite[:, None], values, 0.0)
    own = values[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(count) < truth[:, None]
    rank = 1 + ((values > own) | ((values == own) & earlier)).sum(axis=1)
    predicted, highest = values.argmax(axis=1), values.max(axis=1, keepdims=True)
    spread = np.log(np.exp(values - highest).sum(axis=1))  # apart from `highest`, in which it would drown
    records = []
    for row, name in enumerate(ids):
        label = int(truth[row])
        if not finite[row]:
            records.append(ImageRecord(name, label, None, None, None, None, classes))
            continue
        sure, surprise = math.exp(-spread[row]), float(spread[row] + (highest[row, 0] - own[row, 0]))
        records.append(ImageRecord(name, label, int(rank[row]), int(predicted[row]), sure, surprise, classes))
    return records


def merge_image_records(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """One record an image, sorted by name, so that the order of evaluation cannot change a score.

    An image that came in twice with the same record counts once. Raises InputError when two records differ, or when
    records disagree on the classes.
    """
    unique: dict[str, ImageRecord] = {}
    for record in records:
        first = unique.setdefault(record.id, record)
        if first != record:
            raise InputError(
                f"image {record.id!r} was evaluated twice with different results; give every image a name of its own, "
                "and keep records of different models apart"
            )
    merged = [unique[name] for name in sorted(unique)]
    for record in merged:
        if record.classes is not merged[0].classes and record.classes != merged[0].classes:
            raise InputError(
                f"images {merged[0].id!r} and {record.id!r} were judged with other classes; only records of the same "
                "classes can be pooled"
            )
    return merged


def save_image_records(records: Iterable[ImageRecord], path: Path | str) -> None:
    """Write records as JSON lines: the names of the classes, then one image a line."""
    records = list(records)
    classes = records[0].classes if records else ()
    write_lines(({"classes": classes}, *(record.to_dict() for record in records)), path)


def load_image_records(path: Path | str) -> list[ImageRecord]:
    """Read what `save_image_records` wrote. Raises DataError with the file and line of anything else."""
    classes: list[tuple[str, ...]] = []

    def parse(data: Mapping[str, Any]) -> ImageRecord | None:
        if classes:
            return ImageRecord.from_dict(data, classes[0])
        names = data.get("classes")
        if list(data) != ["classes"] or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise DataError("the first line must name the classes")
        classes.append(tuple(names))
        return None

    return [record for record in read_lines(path, parse, "a classified image") if record is not None]


def confusions(records: Iterable[ImageRecord]) -> tuple[tuple[int, int, int], ...]:
    """(true class, predicted class, images) for every pair that occurs; images without usable outputs are left out."""
    counts = Counter((r.label, r.predicted) for r in records if r.predicted is not None)
    return tuple((true, predicted, counts[true, predicted]) for true, predicted in sorted(counts))


def confident_mistakes(records: Iterable[ImageRecord], count: int) -> list[ImageRecord]:
    """The `count` wrong predictions with the highest confidence, the surest first (equal ones by name)."""
    wrong = [record for record in records if record.confidence is not None and not record.right]
    return sorted(wrong, key=lambda record: (-(record.confidence or 0.0), record.id))[:count]
