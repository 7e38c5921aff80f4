"""Intervals over cases, and the paired comparison of two models on the same cases.

Cases (patients) are drawn with replacement, never slices or scans: only cases are independent of each other. A resample
draws as many cases as there are and scores their pooled sums; the interval runs between the percentiles of these scores
(percentile bootstrap, Efron 1979). With few cases such intervals are too narrow, as are all others: below about twenty
cases read them as a lower bound of the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from latchkey.errors import InputError
from latchkey.metrics.empty import EmptyRule
from latchkey.metrics.scores import Array, Score, Sums, find_score, scores_of, sum_by_case
from latchkey.metrics.statistics import ScanStatistics

Verdict = Literal["superior", "non-inferior", "inferior", "inconclusive"]
Records = Sequence[ScanStatistics]

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
    records: Iterable[ScanStatistics],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    rule: EmptyRule = EmptyRule.STRICT,
) -> dict[str, Interval]:
    """Every score with its bootstrap interval over cases; the same records and seed give the same intervals.

    A resample in which a score is not defined (it drew no case with the class) is left out of that score's interval.
    Scores that fewer than two cases define get no interval. Raises InputError for a `samples` below 100 or a `level`
    outside (0, 1).
    """
    _check(samples, level)
    sums = sum_by_case(records, rule)
    ones = np.ones((1, len(sums.cases)))
    values = scores_of(sums.resample(ones), sums.classes)
    single = scores_of(sums.arrays, sums.classes)
    drawn = _scored(sums, _draws(len(sums.cases), samples, seed))
    result = {}
    for name, value in values.items():
        low, high, reason = _bounds(drawn[name], int((~np.isnan(single[name])).sum()), level)
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
    sides = [[sum_by_case(run, rule) for run in runs] for runs in _paired_runs(baseline, candidate)]
    sums = sides[0][0]
    score = find_score(metric, sums.classes)
    if score.surface and not all(run.surface for side in sides for run in side):
        raise InputError(f"{metric} needs surface distances, which were not measured; evaluate with surface=True")
    cases = len(sums.cases)
    ones = np.ones((1, cases))
    value = _number(float((_average(sides[1], ones, metric) - _average(sides[0], ones, metric))[0]))
    weights = _draws(cases, samples, seed)
    low, high, reason = _bounds(
        _average(sides[1], weights, metric) - _average(sides[0], weights, metric),
        _defined(sides, metric),
        level,
    )
    if value is None:
        low, high, reason = None, None, "no case defines this score on both sides"
    return PairedDifference(value, low, high, margin, _verdict(low, high, margin, score), metric, cases, level, reason)


def _paired_runs(
    baseline: Records | Sequence[Records], candidate: Records | Sequence[Records]
) -> tuple[list[Records], list[Records]]:
    sides = _runs(baseline, "baseline"), _runs(candidate, "candidate")
    reference = {(record.case, record.scan) for record in sides[0][0]}
    classes = sides[0][0][0].classes
    for name, runs in zip(("baseline", "candidate"), sides, strict=True):
        for index, run in enumerate(runs):
            which = f"the {name}" + (f" (run {index + 1})" if len(runs) > 1 else "")
            if run[0].classes != classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run[0].classes)}, the baseline {', '.join(classes)}; "
                    "only evaluations of the same classes can be compared"
                )
            here = {(record.case, record.scan) for record in run}
            if here != reference:
                raise InputError(
                    f"{which} was not evaluated on the cases of the baseline: {_differences(reference, here)}; "
                    "evaluate both on the same split"
                )
    return sides


def _runs(side: Records | Sequence[Records], name: str) -> list[Records]:
    runs = [side] if all(isinstance(item, ScanStatistics) for item in side) else list(side)
    if not runs or not all(runs):
        raise InputError(f"the {name} has no records: evaluate it before comparing")
    if any(isinstance(run, ScanStatistics) for run in runs):
        raise InputError(f"the {name} mixes records and lists of records; give one list, or one list a seed")
    return runs  # type: ignore[return-value]


def _differences(reference: set[tuple[str, str]], here: set[tuple[str, str]]) -> str:
    parts = []
    for label, there, other in (("missing", reference, here), ("only there", here, reference)):
        cases = sorted({case for case, _ in there} - {case for case, _ in other})
        scans = sorted(scan for _, scan in there - other)
        if cases or scans:
            what, names = ("cases", cases) if cases else ("scans", scans)
            parts.append(f"{what} {label}: {', '.join(names[:8])}" + (" ..." if len(names) > 8 else ""))
    return "; ".join(parts)


def _draws(cases: int, samples: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    return generator.multinomial(cases, np.full(cases, 1 / cases), size=samples).astype(np.float64)


def _scored(sums: Sums, weights: Array) -> dict[str, Array]:
    blocks = [
        scores_of(sums.resample(weights[start : start + _ROWS]), sums.classes)
        for start in range(0, len(weights), _ROWS)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _average(side: Sequence[Sums], weights: Array, metric: str) -> Array:
    return np.asarray(np.mean([_scored(run, weights)[metric] for run in side], axis=0))


def _defined(sides: Sequence[Sequence[Sums]], metric: str) -> int:
    per_case = [scores_of(run.arrays, run.classes)[metric] for side in sides for run in side]
    return int((~np.isnan(per_case)).all(axis=0).sum())


def _bounds(drawn: Array, defined: int, level: float) -> tuple[float | None, float | None, str | None]:
    if defined < 2:
        number = "only one case defines" if defined == 1 else "no case defines"
        return None, None, f"{number} this score: an interval over cases needs at least two"
    drawn = drawn[~np.isnan(drawn)]
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
