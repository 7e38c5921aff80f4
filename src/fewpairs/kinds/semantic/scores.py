"""Scores of label maps, computed as ratios of confusion counts that are summed over images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.record import SemanticRecord
from fewpairs.scoring.interval import Array
from fewpairs.scoring.records import merge_records
from fewpairs.scoring.unit_table import SumTable, Units, mean_of_defined, ratio


def sum_by_case(records: Iterable[SemanticRecord], unit: Units = "images") -> SumTable:
    """Add up the pixels of each case and class, `[cases k]` each: "right" (true and predicted), "true", "predicted".

    Raises InputError if there are no records or they do not fit together.
    """
    merged = merge_records(records)
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
    return SumTable(
        unit=unit,
        units=tuple(cases),
        classes=classes,
        truth=tuple(tuple(row) for row in true.tolist()),
        parts=frozenset((record.case, record.id) for record in merged),
        sums={"right": right[:, :-1], "true": true[:, :-1], "predicted": predicted[:, :-1]},
        score=score_pixels,
    )


def score_pixels(sums: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Array]:
    """Compute every score `[...]` from sums `[... k]`; a score that is not defined is NaN.

    IoU = right / (true + predicted - right) of the pooled pixels of a class is not defined if neither truth nor
    prediction has the class; accuracy = right / true is not defined if the truth lacks it. Means are over the classes
    with a defined score, as in mmsegmentation.
    """
    right, true, predicted = sums["right"], sums["true"], sums["predicted"]
    iou, accuracy = ratio(right, true + predicted - right), ratio(right, true)
    result = {
        "miou": mean_of_defined(iou),
        "macc": mean_of_defined(accuracy),
        "aacc": ratio(right.sum(-1), true.sum(-1)),
    }
    for name, values in (("iou", iou), ("acc", accuracy)):
        for index, label in enumerate(classes):
            result[f"{name}/{label}"] = values[..., index]
    return result


def semantic_scores(records: Iterable[SemanticRecord]) -> dict[str, float]:
    """Compute every score of an evaluation set; a score that is not defined is NaN.

    Counts are whole numbers, so neither batch size, order nor number of processes changes the result.
    """
    return sum_by_case(records).totals()
