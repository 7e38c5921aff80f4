"""Scores from sums: one table of sums over cases, from which every score of every resample follows at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.kaggle import DICE_WEIGHT, HAUSDORFF_WEIGHT
from fewpairs.kinds.segmentation.record import ScanStatistics, merge_records
from fewpairs.scoring.interval import Array


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over scans by case: `cases` has their names, each array is `[cases k]`, with `k + 1` where said."""

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    surface: bool
    arrays: dict[str, Array]
    """"tp", "fp", "fn": voxels, the background last (k + 1). "dice", "dice_n": Dice per scan and its number. "hd95",
    "hd95_n": likewise in mm. "slice_dice", "slices", "hausdorff", "scans": the parts of the Kaggle score."""

    def resample(self, weights: Array) -> dict[str, Array]:
        """`[samples cases]` how often each case was drawn -> the sums of each sample, `[samples k]`."""
        return {name: weights @ array for name, array in self.arrays.items()}


def sum_by_case(records: Iterable[ScanStatistics], rule: EmptyRule = EmptyRule.STRICT) -> Sums:
    """Add up the scans of each case. Raises InputError without records and for records that do not fit together."""
    merged = merge_records(records)
    if not merged:
        raise InputError("there is nothing to score: no scan was evaluated; check that the split holds scans")
    surface = merged[0].hd95_mm is not None
    if odd := [r.scan for r in merged if (r.hd95_mm is not None) != surface]:
        raise InputError(f"surface distances are known for some scans only ({odd[0]!r} differs); evaluate all alike")
    cases = sorted({record.case for record in merged})
    row = {case: index for index, case in enumerate(cases)}
    rows = [_scan_sums(record, rule) for record in merged]
    arrays: dict[str, Array] = {}
    for name in rows[0]:
        arrays[name] = np.zeros((len(cases), len(rows[0][name])))
        for record, values in zip(merged, rows, strict=True):
            arrays[name][row[record.case]] += values[name]
    return Sums(tuple(cases), merged[0].classes, surface, arrays)


def _scan_sums(record: ScanStatistics, rule: EmptyRule) -> dict[str, Array]:
    tp, fp, fn = (
        np.array([*counts, record.background[i]], dtype=np.float64)
        for i, counts in enumerate((record.true_positive, record.false_positive, record.false_negative))
    )
    size = (2 * tp + fp + fn)[:-1]
    absent = size == 0
    dice = _ratio(2 * tp[:-1], size)
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


def scores_of(sums: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Array]:
    """Every score from sums whose arrays are `[... k]`, as arrays `[...]`; NaN where a score is not defined.

    Jaccard = TP / (TP + FP + FN) and Dice = 2 TP / (2 TP + FP + FN) of the pooled voxels of a class. Macro means leave
    out the classes that are not defined; weighted means weigh by TP + FN.
    """
    tp, fp, fn = sums["tp"], sums["fp"], sums["fn"]
    jaccard = _ratio(tp, tp + fp + fn)
    true = tp + fn
    dice = _ratio(2 * tp, 2 * tp + fp + fn)[..., :-1]
    per_scan = _ratio(sums["dice"], sums["dice_n"])
    result = {
        "jaccard": _mean(jaccard[..., :-1]),
        "jaccard_weighted": _weighted(jaccard[..., :-1], true[..., :-1]),
        "jaccard_with_background": _mean(jaccard),
        "jaccard_weighted_with_background": _weighted(jaccard, true),
        "dice": _mean(dice),
        "dice_per_scan": _mean(per_scan),
    }
    by_class = {"jaccard": jaccard, "dice": dice, "dice_per_scan": per_scan}
    if "hd95" in sums:
        by_class["hd95_mm"] = _ratio(sums["hd95"], sums["hd95_n"])
        result["hd95_mm"] = _mean(by_class["hd95_mm"])
        slices = _ratio(sums["slice_dice"].sum(-1), sums["slices"].sum(-1))
        volumes = _ratio(sums["hausdorff"].sum(-1), sums["scans"].sum(-1))
        result["kaggle"] = DICE_WEIGHT * slices + HAUSDORFF_WEIGHT * volumes
    for name, values in by_class.items():
        for index, label in enumerate(classes):
            result[f"{name}/{label}"] = values[..., index]
    return result


def compute_scores(records: Iterable[ScanStatistics], *, rule: EmptyRule = EmptyRule.STRICT) -> dict[str, float]:
    """Every score of an evaluation set by name; NaN where none is defined (see `EmptyRule`).

    Sums are taken in the order of case and scan names, so neither batch size nor order nor the number of processes can
    change a bit of the result. Scores of surfaces are left out when surfaces were not measured.
    """
    sums = sum_by_case(records, rule)
    totals = {name: array.sum(axis=0) for name, array in sums.arrays.items()}
    return {name: float(value) for name, value in scores_of(totals, sums.classes).items()}


def scores_by_case(
    records: Iterable[ScanStatistics], *, rule: EmptyRule = EmptyRule.STRICT
) -> dict[str, dict[str, float]]:
    """Every score of every case on its own: case -> score -> value, NaN where it is not defined."""
    sums = sum_by_case(records, rule)
    table = scores_of(sums.arrays, sums.classes)
    return {
        case: {name: float(values[index]) for name, values in table.items()} for index, case in enumerate(sums.cases)
    }


def _ratio(numerator: Array, denominator: Array) -> Array:
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _mean(values: Array) -> Array:
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


def _weighted(values: Array, weights: Array) -> Array:
    return _ratio(np.where(weights > 0, values * weights, 0.0).sum(-1), weights.sum(-1))
