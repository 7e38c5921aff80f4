"""Bootstrap intervals, and paired comparison of two models on the same cases or images.

Percentile bootstraps (Efron 1979), named by what they draw with replacement:

- "cases" or "images": the units that are independent of each other. The interval is about other units, scored with
  these trainings. A resample draws as many units as there are; the scores of several runs are averaged in it.
- "cases and seeds" or "images and seeds": each resample draws the training seeds of each side as well, independently
  of the units (the pigeonhole bootstrap of Owen 2007, arXiv 0712.1111). The interval is about other units and other
  trainings. It counts the variance of one training on one unit up to three times, so it is too wide if trainings differ
  by no more than that; with very few seeds it is too narrow if trainings differ as a whole.

With few units such intervals are too narrow, as are all others: below about twenty read them as a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import InputError
from fewpairs.scoring.interval import (
    Array,
    Interval,
    Over,
    PairedDifference,
    bounds,
    check_margin,
    check_resampling,
    number,
    sure_bounds,
)
from fewpairs.scoring.matching_runs import check_alike, drawn_over
from fewpairs.scoring.score_table import Score, find_score
from fewpairs.scoring.unit_table import UnitTable
from fewpairs.scoring.verdict import read_interval, verdict

_CELLS = 2**20
"""Maximum of numbers in a block of resamples, which bounds the memory to some tens of MiB."""
_ROUNDING = 1e-12
"""Relative difference of two scores up to which they are equal."""
_FEW = 8
"""Ratio of units to groups from which on groups are drawn at once instead of unit by unit."""


def intervals(
    runs: Sequence[UnitTable], *, samples: int = 2000, seed: int = 0, level: float = 0.95, over: Over | None = None
) -> dict[str, Interval]:
    """Compute every score with its bootstrap interval; the same tables and seed give the same intervals.

    `runs` has one table for each training seed; the value is the mean over them. `over` is the tables' unit, or that
    "and seeds"; None includes seeds if there are two or more. Resamples in which a score is not defined are left out
    of its interval; a score that fewer than two units define has no interval. Raises InputError for wrong arguments,
    runs of different units, or if seeds are to be drawn and there is only one.
    """
    check_resampling(samples, level)
    sides = {"the evaluation": runs}
    check_alike(sides)
    over = drawn_over(over, sides)
    first, names = runs[0], shared_names(runs)
    found = {}
    for group in first.groups(names):
        (side,) = _resample([runs], group, samples, seed)
        for name in group:
            value, drawn = number(side.whole[name]), side.seeds if over.endswith("seeds") else side.fixed
            low, high, reason = bounds(drawn[name], _defined(name, runs), level, first.unit)
            if value is None:
                low, high = None, None
                reason = first.undefined(name, runs) or f"no {first.unit[:-1]} defines this score"
            found[name] = Interval(value, low, high, level, reason, over)
    return {name: found[name] for name in names}


def paired(
    baseline: Sequence[UnitTable],
    candidate: Sequence[UnitTable],
    scores: Mapping[str, Score],
    *,
    metric: str,
    margin: float,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    over: Over | None = None,
    steady: bool = True,
) -> PairedDifference:
    """Compute `candidate` minus `baseline` in `metric`, paired by unit, with a verdict (see `PairedDifference`).

    Each side has one table for each training seed, and is the mean over them. `over` is the tables' unit, or that "and
    seeds" (each side draws its own); None includes seeds if both sides have two or more. `margin` is the largest
    loss that is still acceptable, in the unit of the score (0.01 is one percentage point of `top1`) and not negative;
    choose it before looking. Where the reading hangs on resampling and `steady` is set, more are drawn than `samples`
    (up to the table's `most_samples`). Raises InputError for wrong arguments, a metric that is not among `scores` or
    was not measured, or sides that were not evaluated on the same units.
    """
    check_resampling(samples, level)
    check_margin(margin, metric)
    sides = {"the baseline": baseline, "the candidate": candidate}
    check_alike(sides)
    over = drawn_over(over, sides)
    first, runs = baseline[0], [*baseline, *candidate]
    score = find_score(metric, first.classes, scores)
    if any(metric not in run.names for run in runs):
        lacking = "surface distances, which were" if score.surface else "what was"
        remedy = "evaluate with surface=True" if score.surface else "evaluate all runs alike"
        raise InputError(f"{metric} needs {lacking} not measured; {remedy}")
    defined, most = _defined(metric, runs), max(samples, min(side.most_samples for side in runs))
    while True:
        old, new = _resample([baseline, candidate], [metric], samples, seed)
        fixed = _difference(new.fixed[metric], old.fixed[metric])
        seeds = _difference(new.seeds[metric], old.seeds[metric])
        drawn = seeds if over.endswith("seeds") else fixed
        low, high, reason = bounds(drawn, defined, level, first.unit)
        sure = (None, None) if low is None else sure_bounds(drawn, level)
        read, hoped = (
            read_interval(*ends, margin, higher_is_better=score.higher_is_better) for ends in (sure, (low, high))
        )
        if read == hoped or samples >= most or not steady:
            break
        samples = min(most, 4 * samples)
    runs_low, runs_high, _ = bounds(fixed, defined, level, first.unit) if drawn is seeds else (None, None, None)
    value = number(new.whole[metric] - old.whole[metric])
    if value is None:
        low = high = runs_low = runs_high = None
        sure, read = (None, None), "inconclusive"
        reason = first.undefined(metric, runs) or f"no {first.unit[:-1]} defines this score on both sides"
    trainings = min(len(baseline), len(candidate))
    return PairedDifference(
        value=value,
        low=low,
        high=high,
        margin=margin,
        verdict=verdict(
            sure[0], sure[1], margin, higher_is_better=score.higher_is_better, over=over, seeds=trainings, units=defined
        ),
        metric=metric,
        cases=len(first.units),
        level=level,
        reason=reason,
        over=over,
        runs_low=runs_low,
        runs_high=runs_high,
        reading=read,
        seeds=trainings,
        defining=defined,
        samples=samples,
        sure_low=sure[0],
        sure_high=sure[1],
    )


def shared_names(runs: Sequence[UnitTable]) -> list[str]:
    """Return the scores that all runs have, without those that all of them leave out."""
    silent = frozenset.intersection(*(run.silent for run in runs))
    known = [frozenset(run.names) for run in runs]
    return [name for name in runs[0].names if name not in silent and all(name in names for names in known)]


@dataclass(frozen=True, slots=True)
class _Resampled:
    """Mean scores of one side over its runs, by name."""

    whole: dict[str, float]
    """Scores of all units."""
    fixed: dict[str, Array]
    """Scores of each resample `[samples]`, over all runs."""
    seeds: dict[str, Array]
    """Scores of each resample `[samples]`, over the runs that it drew."""


def _resample(sides: Sequence[Sequence[UnitTable]], names: Sequence[str], samples: int, seed: int) -> list[_Resampled]:
    """Score the same resamples for each side."""
    counts, pooled = _pool(sides, names)
    fixed: list[dict[str, list[Array]]] = [{name: [] for name in names} for _ in sides]
    seeds: list[dict[str, list[Array]]] = [{name: [] for name in names} for _ in sides]
    for weights, shares in _draws(pooled, counts, samples, seed):
        for place, side in enumerate(pooled):
            for name, values in _scores(side, weights, names).items():
                fixed[place][name].append(values.mean(axis=0))
                seeds[place][name].append(np.einsum("sr,rs->r", values, shares[place]))
    everyone = (np.ones(len(sides[0][0].units)) if counts is None else counts.astype(np.float64))[None]
    return [
        _Resampled(
            {name: float(values.mean()) for name, values in _scores(side, everyone, names).items()},
            {name: np.concatenate(parts) for name, parts in fixed[place].items()},
            {name: np.concatenate(parts) for name, parts in seeds[place].items()},
        )
        for place, side in enumerate(pooled)
    ]


def _scores(side: Sequence[UnitTable], weights: Array, names: Sequence[str]) -> dict[str, Array]:
    """Return scores of each run in each resample, `[s r]`."""
    runs = [table.scores(weights, names) for table in side]
    return {name: np.stack([run[name] for run in runs]) for name in names}


def _pool(
    sides: Sequence[Sequence[UnitTable]], names: Sequence[str]
) -> tuple[NDArray[np.int64] | None, list[list[UnitTable]]]:
    """Group units that the named scores treat alike: sizes of the groups, and tables with one row for each group.

    In a draw of n units from n the sizes of groups are multinomially distributed, so drawing the sizes changes no
    probability and is faster if groups are few: top-1 of two models with three seeds each has at most 64 groups.
    """
    rows = [table.alike(names) for side in sides for table in side]
    kept = [row for row in rows if row is not None]
    if len(kept) < len(rows):
        return None, [list(side) for side in sides]
    _, places, counts = np.unique(np.column_stack(kept), axis=0, return_index=True, return_counts=True)
    return counts, [[table.pick(places, names) for table in side] for side in sides]


def _difference(new: Array, old: Array) -> Array:
    """Subtract scores; differences that are no more than rounding are 0, so that rounding decides no verdict."""
    found = new - old
    return np.where(np.abs(found) <= _ROUNDING * np.abs(new), 0.0, found)


def _draws(
    sides: Sequence[Sequence[UnitTable]], counts: NDArray[np.int64] | None, samples: int, seed: int
) -> Iterator[tuple[Array, list[Array]]]:
    """Yield blocks of resamples: counts of each unit or group `[r n]`, and shares of the seeds of each side `[r s]`.

    Units and the seeds of each side have separate random streams, so the drawn units depend on nothing else.
    """
    generator, *others = (np.random.default_rng((seed, stream)) for stream in range(1 + len(sides)))
    units = len(sides[0][0].units) if counts is None else int(counts.sum())
    groups = units if counts is None else len(counts)
    counted = counts is not None and _FEW * groups > units
    chances = np.full(units, 1 / units) if counts is None else counts / units
    group = np.repeat(np.arange(groups), 1 if counts is None else counts)
    width = max([units if counted else groups, *(table.width for side in sides for table in side)])
    rows = max(1, _CELLS // width)
    for start in range(0, samples, rows):
        count = min(rows, samples - start)
        if counted:
            drawn = group[generator.integers(0, units, size=(count, units))] + groups * np.arange(count)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        else:
            weights = generator.multinomial(units, chances, size=count)
        shares = [
            other.multinomial(len(side), np.full(len(side), 1 / len(side)), size=count) / len(side)
            for other, side in zip(others, sides, strict=True)
        ]
        yield weights.astype(np.float64), shares


def _defined(name: str, runs: Sequence[UnitTable]) -> int:
    """Count the units that define a score on their own in every run."""
    return int(np.all([run.defining(name) for run in runs], axis=0).sum())
