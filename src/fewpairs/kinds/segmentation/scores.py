"""Segmentation scores, computed from sums over cases, for all resamples at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.kaggle import DICE_WEIGHT, HAUSDORFF_WEIGHT
from fewpairs.kinds.segmentation.record import SegmentationRecord
from fewpairs.scoring.interval import Array
from fewpairs.scoring.records import merge_records
from fewpairs.scoring.unit_table import SumTable, mean_of_defined, ratio


def sum_by_case(records: Iterable[SegmentationRecord], rule: EmptyRule = EmptyRule.STRICT) -> SumTable:
    """Add up the scans of each case to arrays `[cases k]`.

    "tp", "fp" and "fn" count voxels and have k + 1 columns, the background last. "dice" and "dice_n" are the sum and
    count of the Dice per scan, "hd95" and "hd95_n" those of HD95 in mm. "slice_dice", "slices", "hausdorff" and "scans"
    are the parts of the Kaggle score. Raises InputError if there are no records or they do not fit together.
    """
    merged = merge_records(records)
    if not merged:
        raise InputError("there is nothing to score: no scan was evaluated; check that the split holds scans")
    cases = sorted({record.case for record in merged})
    row = {case: index for index, case in enumerate(cases)}
    rows = [_scan_sums(record, rule) for record in merged]
    sums: dict[str, Array] = {}
    for name in rows[0]:
        sums[name] = np.zeros((len(cases), len(rows[0][name])))
        for record, values in zip(merged, rows, strict=True):
            sums[name][row[record.case]] += values[name]
    return SumTable(
        unit="cases",
        units=tuple(cases),
        classes=merged[0].classes,
        truth=tuple(tuple(row) for row in (sums["tp"] + sums["fn"]).tolist()),
        parts=frozenset((record.case, record.scan) for record in merged),
        part="scans",
        form=merged[0].form,
        sums=sums,
        score=score_voxels,
    )


def _scan_sums(record: SegmentationRecord, rule: EmptyRule) -> dict[str, Array]:
    tp, fp, fn = (
        np.array([*counts, record.background[i]], dtype=np.float64)
        for i, counts in enumerate((record.true_positive, record.false_positive, record.false_negative))
    )
    size = (2 * tp + fp + fn)[:-1]
    absent = size == 0
    dice = ratio(2 * tp[:-1], size)
    overlap, distance = rule.absent_overlap, rule.absent_distance
    sums = {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "dice": np.where(absent, overlap or 0.0, dice),
        "dice_n": np.where(absent, float(overlap is not None), 1.0),
        "slice_dice": np.array(record.slice_dice, dtype=np.float64),
        "slices": np.array(record.slices, dtype=np.float64),
    }
    if record.hd95_mm is not None and record.hausdorff_score is not None:
        measured = np.array([record.diagonal_mm if d is None else d for d in record.hd95_mm], dtype=np.float64)
        sums["hd95"] = np.where(absent, distance or 0.0, measured)
        sums["hd95_n"] = np.where(absent, float(distance is not None), 1.0)
        sums["hausdorff"] = np.array(record.hausdorff_score, dtype=np.float64)
        sums["scans"] = np.ones_like(sums["hausdorff"])
    return sums


def score_voxels(sums: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Array]:
    """Compute every score `[...]` from sums `[... k]`; a score that is not defined is NaN.

    Jaccard = TP / (TP + FP + FN) and Dice = 2 TP / (2 TP + FP + FN) of the pooled voxels of a class. Macro means leave
    out undefined classes; weighted means weigh classes by TP + FN.
    """
    tp, fp, fn = sums["tp"], sums["fp"], sums["fn"]
    jaccard = ratio(tp, tp + fp + fn)
    true = tp + fn
    dice = ratio(2 * tp, 2 * tp + fp + fn)[..., :-1]
    per_scan = ratio(sums["dice"], sums["dice_n"])
    result = {
        "jaccard": mean_of_defined(jaccard[..., :-1]),
        "jaccard_weighted": _weighted(jaccard[..., :-1], true[..., :-1]),
        "jaccard_with_background": mean_of_defined(jaccard),
        "jaccard_weighted_with_background": _weighted(jaccard, true),
        "dice": mean_of_defined(dice),
        "dice_per_scan": mean_of_defined(per_scan),
    }
    by_class = {"jaccard": jaccard, "dice": dice, "dice_per_scan": per_scan}
    if "hd95" in sums:
        by_class["hd95_mm"] = ratio(sums["hd95"], sums["hd95_n"])
        result["hd95_mm"] = mean_of_defined(by_class["hd95_mm"])
        slices = ratio(sums["slice_dice"].sum(-1), sums["slices"].sum(-1))
        volumes = ratio(sums["hausdorff"].sum(-1), sums["scans"].sum(-1))
        result["kaggle"] = DICE_WEIGHT * slices + HAUSDORFF_WEIGHT * volumes
    for name, values in by_class.items():
        for index, label in enumerate(classes):
            result[f"{name}/{label}"] = values[..., index]
    return result


def segmentation_scores(
    records: Iterable[SegmentationRecord], *, rule: EmptyRule = EmptyRule.STRICT
) -> dict[str, float]:
    """Compute every score of an evaluation set; a score that is not defined is NaN (see `EmptyRule`).

    Sums are taken in the order of case and scan names, so neither batch size, order nor number of processes changes the
    result. Surface scores are left out if surfaces were not measured.
    """
    return sum_by_case(records, rule).totals()


def scores_by_case(
    records: Iterable[SegmentationRecord], *, rule: EmptyRule = EmptyRule.STRICT
) -> dict[str, dict[str, float]]:
    """Compute every score of each case: case -> score -> value, NaN if not defined."""
    table = sum_by_case(records, rule)
    return {
        case: {name: float(values[index]) for name, values in table.single.items()}
        for index, case in enumerate(table.units)
    }


def _weighted(values: Array, weights: Array) -> Array:
    return ratio(np.where(weights > 0, values * weights, 0.0).sum(-1), weights.sum(-1))
