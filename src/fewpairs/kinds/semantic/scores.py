"""Scores of label maps from confusion counts: sums over images first, ratios last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.record import SceneRecord, merge_scene_records
from fewpairs.scoring.interval import Array


@dataclass(frozen=True, slots=True)
class SceneSums:
    """Pixels by case and class, `[cases k]` each."""

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    arrays: dict[str, Array]
    """"right": of the class and predicted so; "true": of the class; "predicted": predicted as the class."""

    def resample(self, weights: Array) -> dict[str, Array]:
        """`[samples cases]` how often each case was drawn -> the sums of each sample, `[samples k]`."""
        return {name: weights @ array for name, array in self.arrays.items()}


def sum_scenes(records: Iterable[SceneRecord]) -> SceneSums:
    """Add up the images of each case. Raises InputError without records, or for records that do not fit together."""
    merged = merge_scene_records(records)
    if not merged:
        raise InputError("there is nothing to score: no image was evaluated; check the validation split")
    classes = merged[0].classes
    cases = sorted({record.case for record in merged})
    row = {case: index for index, case in enumerate(cases)}
    right, true, predicted = (np.zeros((len(cases), len(classes) + 1)) for _ in range(3))
    for record in merged:
        place = row[record.case]
        for of, found, pixels in record.pairs:
            true[place, of] += pixels
            predicted[place, found] += pixels
            right[place, of] += pixels if of == found else 0
    arrays = {"right": right[:, :-1], "true": true[:, :-1], "predicted": predicted[:, :-1]}
    return SceneSums(tuple(cases), classes, arrays)


def scene_scores_of(sums: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Array]:
    """Every score from sums `[... k]`, as arrays `[...]`; NaN where a score is not defined.

    IoU = right / (true + predicted - right) of the pooled pixels of a class, not defined for one that neither truth nor
    prediction holds; accuracy = right / true, not defined for one that the truth lacks. Their means are over the
    classes that define them, as in mmsegmentation.
    """
    right, true, predicted = sums["right"], sums["true"], sums["predicted"]
    iou, accuracy = _ratio(right, true + predicted - right), _ratio(right, true)
    result = {"miou": _mean(iou), "macc": _mean(accuracy), "aacc": _ratio(right.sum(-1), true.sum(-1))}
    for name, values in (("iou", iou), ("acc", accuracy)):
        for index, label in enumerate(classes):
            result[f"{name}/{label}"] = values[..., index]
    return result


def scene_scores(records: Iterable[SceneRecord]) -> dict[str, float]:
    """Every score of an evaluation set by name; NaN where one is not defined.

    Pixels are whole numbers, so neither batch size nor order nor the number of processes can change a bit of it.
    """
    sums = sum_scenes(records)
    totals = {name: array.sum(axis=0) for name, array in sums.arrays.items()}
    return {name: float(value) for name, value in scene_scores_of(totals, sums.classes).items()}


def _ratio(numerator: Array, denominator: Array) -> Array:
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def _mean(values: Array) -> Array:
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))
