"""Records of classified images, with everything that scores need."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.scoring.records import Record, is_index


@dataclass(frozen=True, slots=True)
class ClassificationRecord(Record):
    """Classification of one image.

    `rank`, `predicted`, `confidence` and `nll` are all None if an output was not finite; such an image is wrong.
    """

    what = "a classified image"

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

    @property
    def key(self) -> tuple[str, ...]:
        return (self.id,)

    @classmethod
    def _parse(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> ClassificationRecord:
        count, found = len(classes), [data[name] for name in ("rank", "predicted", "confidence", "nll")]
        whole = is_index(data["rank"], 1, count + 1) and is_index(data["predicted"], 0, count)
        numbers = all(isinstance(value, int | float) and 0 <= value < math.inf for value in found[2:])
        known = isinstance(data["id"], str) and is_index(data["label"], 0, count)
        if not known or not (all(value is None for value in found) or (whole and numbers)):
            raise DataError(f"image {data['id']!r} has fields of the wrong type or size for {count} classes")
        return cls(**data, classes=classes)


def classification_records(
    logits: Tensor, labels: Tensor, *, ids: Sequence[str], classes: tuple[str, ...]
) -> list[ClassificationRecord]:
    """Score `[s k]` outputs against `[s]` class indices, image by image, in float64.

    Raises InputError if sizes do not fit or labels are not class indices.
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
            records.append(ClassificationRecord(name, label, None, None, None, None, classes))
            continue
        sure, surprise = math.exp(-spread[row]), float(spread[row] + (highest[row, 0] - own[row, 0]))
        records.append(ClassificationRecord(name, label, int(rank[row]), int(predicted[row]), sure, surprise, classes))
    return records


def confusions(records: Iterable[ClassificationRecord]) -> tuple[tuple[int, int, int], ...]:
    """Count images by (true class, predicted class, images); images without finite outputs are left out."""
    counts = Counter((r.label, r.predicted) for r in records if r.predicted is not None)
    return tuple((true, predicted, counts[true, predicted]) for true, predicted in sorted(counts))


def confident_mistakes(records: Iterable[ClassificationRecord], count: int) -> list[ClassificationRecord]:
    """Return the `count` wrong predictions of highest confidence, in descending order, ties by name."""
    wrong = [record for record in records if record.confidence is not None and not record.right]
    return sorted(wrong, key=lambda record: (-(record.confidence or 0.0), record.id))[:count]
