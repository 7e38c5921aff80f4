"""COCO's average precision from matches, for all resamples at once and without matching again.

The precision-recall curve of a class goes through its detections, the highest score first. Precision is made
non-increasing and read at the recalls 0, 0.01, ... 1; the mean of the 101 values is the AP of one class at one overlap
threshold. A score is the mean over thresholds and over the classes with objects in its range of area. An image drawn w
times counts as w equal images, whose detections of equal score are neighbours. If each image is drawn once, the result
is that of COCOeval.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.kinds.detection.matching import MAX_DETECTIONS, Curve, Matches, Overlap, match
from fewpairs.kinds.detection.record import DetectionRecord
from fewpairs.scoring.bootstrap import shared_names
from fewpairs.scoring.interval import Array
from fewpairs.scoring.records import merge_records
from fewpairs.scoring.unit_table import UnitTable, ratio

RECALLS = np.linspace(0.0, 1.00, 101)
_THRESHOLDS = 10
_MEANT: dict[str, tuple[str, slice]] = {
    "ap": ("all", slice(0, _THRESHOLDS)),
    "ap50": ("all", slice(0, 1)),
    "ap75": ("all", slice(5, 6)),
    "aps": ("small", slice(0, _THRESHOLDS)),
    "apm": ("medium", slice(0, _THRESHOLDS)),
    "apl": ("large", slice(0, _THRESHOLDS)),
}
_BY_CLASS = ("ap", "ap50")
_MASKS = "mask_"
NOT_FINITE = "detections_not_finite"


@dataclass(frozen=True, kw_only=True)
class MatchedDetections(UnitTable):
    """The matched boxes and, if they are scored, masks of an evaluation."""

    matches: dict[str, Matches]
    """Matches by the prefix of their scores: "" for boxes, "mask_" for masks."""

    @property
    def names(self) -> list[str]:
        names = [
            f"{prefix}{name}{label}"
            for prefix in self.matches
            for name in _MEANT
            for label in ("", *(f"/{one}" for one in self.classes if name in _BY_CLASS))
        ]
        return [*names, NOT_FINITE]

    @property
    def silent(self) -> frozenset[str]:
        return frozenset(() if self.matches[""].not_finite.any() else (NOT_FINITE,))

    @property
    def most_samples(self) -> int:
        return 8_000

    @property
    def width(self) -> int:
        curves = (len(c.image) for matches in self.matches.values() for c in matches.curves.values())
        return max([len(self.units), *curves])

    def scores(self, weights: Array, names: Sequence[str]) -> dict[str, Array]:
        """Compute the named scores `[r]` from how often each image was drawn, `[r n]`; COCO's -1 is NaN."""
        known: dict[tuple[str, int, str, int], Array] = {}
        return {name: self._score(name, weights, known) for name in names}

    def defining(self, name: str) -> NDArray[np.bool_]:
        """Return `[n]`, whether a score is defined for each image alone, that is, whether it has such an object."""
        if name == NOT_FINITE:
            return np.ones(len(self.units), bool)
        matches, area, _, labels = self._meaning(name)
        found = [curve.truth > 0 for label in labels if (curve := matches.curves.get((label, area))) is not None]
        return np.any(found, axis=0) if found else np.zeros(len(self.units), bool)

    def undefined(self, name: str, runs: Sequence[MatchedDetections]) -> str | None:
        return "no image holds an object that this score is about"

    def same_truth(self, mine: Hashable, other: Hashable) -> bool:
        """Return whether two truths are equal, apart from masks that only one of them has."""
        (*boxes, masks), (*others, other_masks) = cast(tuple[object, ...], mine), cast(tuple[object, ...], other)
        return boxes == others and (masks == other_masks or None in (masks, other_masks))

    def _score(self, name: str, weights: Array, known: dict[tuple[str, int, str, int], Array]) -> Array:
        if name == NOT_FINITE:
            return weights @ self.matches[""].not_finite
        matches, area, thresholds, labels = self._meaning(name)
        total, defined = np.zeros(len(weights)), np.zeros(len(weights))
        prefix = _MASKS if name.startswith(_MASKS) else ""
        places = range(_THRESHOLDS)[thresholds]
        for label in labels:
            curve = matches.curves.get((label, area))
            if curve is None:
                continue
            missing = [place for place in places if (prefix, label, area, place) not in known]
            for place, values in zip(missing, average_precision(curve, missing, weights), strict=True):
                known[prefix, label, area, place] = values
            values = np.mean([known[prefix, label, area, place] for place in places], axis=0)
            there = ~np.isnan(values)
            total += np.where(there, values, 0.0)
            defined += there
        return ratio(total, defined)

    def _meaning(self, name: str) -> tuple[Matches, str, slice, Sequence[int]]:
        base, slash, label = name.partition("/")
        prefix = _MASKS if base.startswith(_MASKS) else ""
        area, thresholds = _MEANT[base.removeprefix(_MASKS)]
        labels = [self.classes.index(label)] if slash else range(len(self.classes))
        return self.matches[prefix], area, thresholds, labels


def average_precision(curve: Curve, thresholds: Sequence[int], weights: Array) -> list[Array]:
    """Compute the AP `[r]` of one class at several overlap thresholds, for images drawn `weights` `[r n]` times.

    It is NaN if none of the drawn images has an object. Precision can only be highest at a hit, so only hits are
    evaluated.
    """
    objects = weights @ curve.truth
    drawn = weights[:, curve.image]
    found: list[Array] = []
    for threshold in thresholds:
        at = np.flatnonzero(curve.hit[threshold])
        result = np.where(objects > 0, 0.0, np.nan)
        if len(at):
            hits = np.cumsum(drawn[:, at], axis=1)
            misses = np.cumsum(drawn[:, : at[-1] + 1] * curve.miss[threshold, : at[-1] + 1], axis=1)[:, at]
            precision = hits / np.maximum(hits + misses, 1.0)
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = hits / np.maximum(objects, 1.0)[:, None]
            reached = np.searchsorted(RECALLS, recall, side="right")
            read = np.diff(reached, axis=1, prepend=0)
            result = np.where(objects > 0, (precision * read).sum(axis=1) / len(RECALLS), np.nan)
        found.append(result)
    return found


def match_detections(records: Iterable[DetectionRecord], *, max_detections: int = MAX_DETECTIONS) -> MatchedDetections:
    """Match the detections of an evaluation with its truth.

    Raises:
        InputError: there are no records, or `max_detections` is below 1.
    """
    merged = merge_records(records)
    if not merged:
        raise InputError("there is nothing to score: no image was evaluated; check that the split holds images")
    if max_detections < 1:
        raise InputError(f"max_detections={max_detections}: at least 1 detection of a class in an image counts")
    overlaps: dict[str, Overlap] = {"": "bbox"} if merged[0].masks is None else {"": "bbox", _MASKS: "segm"}
    return MatchedDetections(
        units=tuple(record.id for record in merged),
        classes=merged[0].classes,
        truth=tuple((record.boxes, record.labels, record.crowd, record.area, record.masks) for record in merged),
        matches={prefix: match(merged, overlap, max_detections=max_detections) for prefix, overlap in overlaps.items()},
    )


def detection_scores(records: Iterable[DetectionRecord], *, max_detections: int = MAX_DETECTIONS) -> dict[str, float]:
    """Compute every score of an evaluation by name (see `DETECTION_SCORES`).

    A score is NaN, where COCO gives -1, if no image has an object that it covers. If there are such objects but no
    detections, it is 0.
    """
    table = match_detections(records, max_detections=max_detections)
    values = table.scores(np.ones((1, len(table.units))), shared_names([table]))
    return {name: float(value[0]) for name, value in values.items()}
