"""One record an image: the confusion counts of its pixels, and nothing that depends on a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fewpairs.errors import DataError, InputError
from fewpairs.scoring.records import read_lines, write_lines
from fewpairs.types import IGNORE


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """What a model made of one image, in scored pixels."""

    id: str
    case: str
    """What is independent of other cases: a patient, or the image itself."""
    pairs: tuple[tuple[int, int, int], ...]
    """(true class, predicted class, pixels) for every pair that occurs, rising. The number of classes, as a predicted
    class, stands for pixels with outputs that were not finite: they are missed, and are no other class's."""
    classes: tuple[str, ...]
    """Names of the classes, the same for all images of an evaluation; written once for a whole file."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the classes; `from_dict` gives the equal record back."""
        return {"id": self.id, "case": self.case, "pairs": [list(pair) for pair in self.pairs]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], classes: tuple[str, ...]) -> SceneRecord:
        """The record that `to_dict` wrote. Raises DataError for missing, unknown or impossible fields."""
        if wrong := sorted({"id", "case", "pairs"} ^ set(data)):
            raise DataError(f"it has the wrong fields: {', '.join(wrong)} (missing or unknown)")
        pairs = data["pairs"]
        good = isinstance(data["id"], str) and isinstance(data["case"], str) and isinstance(pairs, list)
        if not good or not all(_is_pair(pair, len(classes)) for pair in pairs):
            raise DataError(f"image {data['id']!r} has fields of the wrong type or size for {len(classes)} classes")
        return cls(data["id"], data["case"], tuple((pair[0], pair[1], pair[2]) for pair in pairs), classes)


def _is_pair(pair: object, count: int) -> bool:
    if not isinstance(pair, list) or len(pair) != 3 or not all(type(value) is int for value in pair):
        return False
    return 0 <= pair[0] < count and 0 <= pair[1] <= count and pair[2] > 0


def scene_record(prediction: Tensor, label: Tensor, *, id: str, case: str, classes: Sequence[str]) -> SceneRecord:  # noqa: A002
    """Counts one image: `[H W]` predicted and true class indices, both with `IGNORE` where there is none.

    Pixels without a true class are left out; a predicted `IGNORE` counts as missed.

    Raises:
        InputError: sizes that differ, or a number that is no class.
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
    return SceneRecord(id, case, pairs, tuple(classes))


def merge_scene_records(records: Iterable[SceneRecord]) -> list[SceneRecord]:
    """Records sorted by name, whatever order they came in; an image that came in twice alike counts once.

    Raises InputError when two records of an image differ, or when records disagree on the classes.
    """
    unique: dict[str, SceneRecord] = {}
    for record in records:
        first = unique.setdefault(record.id, record)
        if first != record:
            raise InputError(
                f"image {record.id!r} was evaluated twice with different results; give every image a name of its own, "
                "and keep records of different models apart"
            )
    merged = [unique[name] for name in sorted(unique)]
    if odd := next((record for record in merged if record.classes != merged[0].classes), None):
        raise InputError(
            f"images {merged[0].id!r} and {odd.id!r} were judged with other classes; only records of the same classes "
            "can be pooled"
        )
    return merged


def scene_confusions(records: Iterable[SceneRecord]) -> tuple[tuple[int, int, int], ...]:
    """(true class, predicted class, pixels) over all images; pixels without usable outputs are left out."""
    counts: Counter[tuple[int, int]] = Counter()
    for record in records:
        for true, predicted, pixels in record.pairs:
            if predicted < len(record.classes):
                counts[true, predicted] += pixels
    return tuple((true, predicted, counts[true, predicted]) for true, predicted in sorted(counts))


def save_scene_records(records: Iterable[SceneRecord], path: Path | str) -> None:
    """Write records as JSON lines: the names of the classes, then one image a line."""
    records = list(records)
    classes = records[0].classes if records else ()
    write_lines(({"classes": classes}, *(record.to_dict() for record in records)), path)


def load_scene_records(path: Path | str) -> list[SceneRecord]:
    """Read what `save_scene_records` wrote. Raises DataError with the file and line of anything else."""
    classes: list[tuple[str, ...]] = []

    def parse(data: Mapping[str, Any]) -> SceneRecord | None:
        if classes:
            return SceneRecord.from_dict(data, classes[0])
        names = data.get("classes")
        if list(data) != ["classes"] or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise DataError("the first line must name the classes")
        classes.append(tuple(names))
        return None

    return [record for record in read_lines(path, parse, "a segmented image") if record is not None]
