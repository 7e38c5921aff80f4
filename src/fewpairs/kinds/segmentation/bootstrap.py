"""Intervals over cases, and the paired comparison of two models on the same cases.

Cases (patients) are drawn with replacement, never slices or scans: only cases are independent of each other. A resample
draws as many cases as there are and scores their pooled sums; the interval runs between the percentiles of these scores
(percentile bootstrap, Efron 1979). With few cases such intervals are too narrow, as are all others: below about twenty
cases read them as a lower bound of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import ScanStatistics
from fewpairs.kinds.segmentation.scores import Sums, scores_of, sum_by_case
from fewpairs.scoring.interval import (
    Array,
    Interval,
    PairedDifference,
    bounds,
    check_margin,
    check_resampling,
    number,
    verdict,
)
from fewpairs.scoring.runs import as_runs, run_name, some
from fewpairs.scoring.score_table import find_score

Records = Sequence[ScanStatistics]

_ROWS = 1000
"""Resamples scored at once, which bounds the memory."""


def intervals(
    records: Records | Sequence[Records],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    rule: EmptyRule = EmptyRule.STRICT,
) -> dict[str, Interval]:
    """Every score with its bootstrap interval over cases; the same records and seed give the same intervals.

    `records` is one evaluation, or one for each training seed: then scores are averaged over the seeds, inside each
    resample too, and the interval speaks of the cases, not of seeds never run.

    A resample in which a score is not defined (it drew no case with the class) is left out of that score's interval.
    Scores that fewer than two cases define get no interval. Raises InputError for a `samples` below 100, a `level`
    outside (0, 1), or seeds that were evaluated on different scans.
    """
    check_resampling(samples, level)
    runs = as_runs(records, "the evaluation", ScanStatistics)
    check_same_scans({"the evaluation": runs})
    side = [sum_by_case(run, rule) for run in runs]
    cases = len(side[0].cases)
    values = _average(side, np.ones((1, cases)))
    drawn = _average(side, _draws(cases, samples, seed))
    defined = _defined(side)
    result = {}
    for name, value in values.items():
        low, high, reason = bounds(drawn[name], int(defined[name].sum()), level)
        point = number(float(value[0]))
        result[name] = Interval(point, low, high, level, "no case defines this score" if point is None else reason)
    return result


def paired(
    baseline: Records | Sequence[Records],
    candidate: Records | Sequence[Records],
    *,
    metric: str = "dice",
    margin: float,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    rule: EmptyRule = EmptyRule.STRICT,
) -> PairedDifference:
    """`candidate` minus `baseline` in `metric`, paired by case, with the verdict at `margin` (see `PairedDifference`).

    Each side is the records of one evaluation, or one such list for each training seed. The seeds of a side are
    averaged inside each resample, so the interval speaks of the cases and of the average of these very seeds, not of
    seeds never run. `margin` is the largest loss that is still acceptable, in the unit of the score and not negative;
    choose it before looking. Raises InputError when the sides were not evaluated on the same cases and scans.
    """
    check_resampling(samples, level)
    check_margin(margin, metric)
    sides = {"the baseline": baseline, "the candidate": candidate}
    runs = {name: as_runs(side, name, ScanStatistics) for name, side in sides.items()}
    check_same_scans(runs)
    old, new = ([sum_by_case(run, rule) for run in side] for side in runs.values())
    score = find_score(metric, old[0].classes)
    if score.surface and not all(run.surface for run in [*old, *new]):
        raise InputError(f"{metric} needs surface distances, which were not measured; evaluate with surface=True")
    cases = len(old[0].cases)
    everyone, weights = np.ones((1, cases)), _draws(cases, samples, seed)
    value = number(float((_average(new, everyone)[metric] - _average(old, everyone)[metric])[0]))
    drawn = _average(new, weights)[metric] - _average(old, weights)[metric]
    low, high, reason = bounds(drawn, int((_defined(old)[metric] & _defined(new)[metric]).sum()), level)
    if value is None:
        low, high, reason = None, None, "no case defines this score on both sides"
    said = verdict(low, high, margin, higher_is_better=score.higher_is_better)
    return PairedDifference(value, low, high, margin, said, metric, cases, level, reason)


def _draws(cases: int, samples: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    return generator.multinomial(cases, np.full(cases, 1 / cases), size=samples).astype(np.float64)


def _average(side: Sequence[Sums], weights: Array) -> dict[str, Array]:
    """Scores of each resample `[samples cases]`, averaged over the runs of a side."""
    blocks = []
    for start in range(0, len(weights), _ROWS):
        scored = [scores_of(run.resample(weights[start : start + _ROWS]), run.classes) for run in side]
        blocks.append({name: np.mean([scores[name] for scores in scored], axis=0) for name in scored[0]})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _defined(side: Sequence[Sums]) -> dict[str, NDArray[np.bool_]]:
    """For each score the cases that define it on their own in every run, `[cases]`."""
    scored = [scores_of(run.arrays, run.classes) for run in side]
    return {name: np.all(~np.isnan([scores[name] for scores in scored]), axis=0) for name in scored[0]}


def check_same_scans(sides: dict[str, list[Records]]) -> None:
    """Raises InputError that names the cases or scans in which an evaluation differs from the first one."""
    first, runs = next(iter(sides.items()))
    reference = {(record.case, record.scan) for record in runs[0]}
    classes = runs[0][0].classes
    for name, runs in sides.items():
        for index, run in enumerate(runs):
            which = run_name(name, index, runs)
            if run[0].classes != classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run[0].classes)}, {first} {', '.join(classes)}; "
                    "only evaluations of the same classes can be compared"
                )
            if (run[0].hd95_mm is None) != (runs[0][0].hd95_mm is None):
                raise InputError(f"{which} and run 1 differ in whether surfaces were measured; evaluate all runs alike")
            here = {(record.case, record.scan) for record in run}
            if here != reference:
                raise InputError(
                    f"{which} was not evaluated on the cases of {first}: {_differences(reference, here)}; "
                    "evaluate both on the same split"
                )


def _differences(reference: set[tuple[str, str]], here: set[tuple[str, str]]) -> str:
    parts = []
    for label, there, other in (("missing", reference, here), ("only there", here, reference)):
        cases = {case for case, _ in there} - {case for case, _ in other}
        scans = [scan for _, scan in there - other]
        if cases or scans:
            parts.append(f"cases {label}: {some(cases)}" if cases else f"scans {label}: {some(scans)}")
    return "; ".join(parts)
