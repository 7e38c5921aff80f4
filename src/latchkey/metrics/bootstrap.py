"""Intervals over cases, and the paired comparison of two models on the same cases.

Cases (patients) are drawn with replacement, never slices or scans: only cases are independent of each other. A resample
draws as many cases as there are and scores their pooled sums; the interval runs between the percentiles of these scores
(percentile bootstrap, Efron 1979). With few cases such intervals are too narrow, as are all others: below about twenty
cases read them as a lower bound of the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latchkey.errors import InputError
from latchkey.metrics.empty import EmptyRule
from latchkey.metrics.runs import Records, as_runs, check_same_scans
from latchkey.metrics.scores import Array, Score, Sums, find_score, scores_of, sum_by_case

Verdict = Literal["superior", "non-inferior", "inferior", "inconclusive"]

_ROWS = 1000
"""Resamples scored at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and where it may lie; `low` and `high` are None when `reason` says why there is no interval."""

    value: float | None
    """None when the score itself is not defined."""
    low: float | None
    high: float | None
    level: float = 0.95
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus baseline on the same cases, in the unit of the score, with its interval and the verdict on it.

    With a gain counted upwards (the sign is turned for scores where lower is better):

    | verdict        | the whole interval of the gain lies                  |
    | -------------- | ---------------------------------------------------- |
    | `superior`     | above 0                                              |
    | `non-inferior` | above -margin (and not above 0)                      |
    | `inferior`     | below -margin                                        |
    | `inconclusive` | nowhere of these: it holds -margin, or there is none |

    A two-sided interval of level 0.95 makes the test of non-inferiority one-sided at 0.025, which is the usual one.
    """

    value: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: Verdict
    metric: str
    cases: int
    level: float = 0.95
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


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
    _check(samples, level)
    runs = as_runs(records, "the evaluation")
    check_same_scans({"the evaluation": runs})
    side = [sum_by_case(run, rule) for run in runs]
    cases = len(side[0].cases)
    values = _average(side, np.ones((1, cases)))
    drawn = _average(side, _draws(cases, samples, seed))
    defined = _defined(side)
    result = {}
    for name, value in values.items():
        low, high, reason = _bounds(drawn[name], int(defined[name].sum()), level)
        point = _number(float(value[0]))
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
    _check(samples, level)
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"margin must be a number of at least 0, in the unit of {metric}; got {margin}")
    runs = {"the baseline": as_runs(baseline, "the baseline"), "the candidate": as_runs(candidate, "the candidate")}
    check_same_scans(runs)
    old, new = ([sum_by_case(run, rule) for run in side] for side in runs.values())
    score = find_score(metric, old[0].classes)
    if score.surface and not all(run.surface for run in [*old, *new]):
        raise InputError(f"{metric} needs surface distances, which were not measured; evaluate with surface=True")
    cases = len(old[0].cases)
    everyone, weights = np.ones((1, cases)), _draws(cases, samples, seed)
    value = _number(float((_average(new, everyone)[metric] - _average(old, everyone)[metric])[0]))
    drawn = _average(new, weights)[metric] - _average(old, weights)[metric]
    low, high, reason = _bounds(drawn, int((_defined(old)[metric] & _defined(new)[metric]).sum()), level)
    if value is None:
        low, high, reason = None, None, "no case defines this score on both sides"
    return PairedDifference(value, low, high, margin, _verdict(low, high, margin, score), metric, cases, level, reason)


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


def _bounds(drawn: Array, defined: int, level: float) -> tuple[float | None, float | None, str | None]:
    if defined < 2:
        number = "only one case defines" if defined == 1 else "no case defines"
        return None, None, f"{number} this score: an interval over cases needs at least two"
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return None, None, "no resample drew a case that defines this score; take more samples"
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), None


def _verdict(low: float | None, high: float | None, margin: float, score: Score) -> Verdict:
    if low is None or high is None:
        return "inconclusive"
    worst, best = (low, high) if score.higher_is_better else (-high, -low)
    if worst > 0:
        return "superior"
    if worst > -margin:
        return "non-inferior"
    return "inferior" if best < -margin else "inconclusive"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _check(samples: int, level: float) -> None:
    if samples < 100:
        raise InputError(f"samples must be at least 100 resamples (1,000 to 10,000 are usual), got {samples}")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, such as 0.95; got {level}")
