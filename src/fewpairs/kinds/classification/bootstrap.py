"""Intervals of a classification's scores, and the paired comparison of two classifiers on the same images.

Two bootstraps (percentile, Efron 1979), named by what they draw with replacement:

- "images": the interval speaks of other images, classified by these very trainings.
- "images and seeds": each resample draws the training seeds of each side as well, independently of the images (the
  pigeonhole bootstrap of Owen 2007, arXiv 0712.1111). The interval speaks of other images and other trainings. It
  counts up to three times what is chance of one training on one image, and so is too wide where trainings differ by no
  more than that; with very few seeds to draw from it is too narrow where trainings differ as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.classification.draws import pool
from fewpairs.kinds.classification.record import ImageRecord
from fewpairs.kinds.classification.scores import ImageTable, score_names, scores_of, tabulate
from fewpairs.scoring.interval import (
    Array,
    Interval,
    Over,
    PairedDifference,
    bounds,
    check_margin,
    check_resampling,
    number,
    verdict,
)
from fewpairs.scoring.runs import as_runs, run_name, some
from fewpairs.scoring.score_table import CLASSIFICATION_SCORES, find_score

ImageRuns = Sequence[ImageRecord] | Sequence[Sequence[ImageRecord]]
"""The records of one evaluation, or one such list for each training seed."""


def image_intervals(
    records: ImageRuns, *, samples: int = 2000, seed: int = 0, level: float = 0.95, over: Over | None = None
) -> dict[str, Interval]:
    """Every score with its bootstrap interval; the same records and seed give the same intervals.

    With several training seeds the value is the mean over them. `over` is "images" or "images and seeds"; None takes
    seeds in where there are two or more. Scores that fewer than two images define get no interval. Raises InputError
    for wrong arguments, seeds evaluated on different images, or seeds to draw where there is one.
    """
    check_resampling(samples, level)
    sides = _tables({"the evaluation": records})
    over = _drawn(over, sides)
    (tables,) = sides.values()
    everything = score_names(tables)
    # No two images have the same log loss: apart from it there are few kinds of images, which are quickly drawn.
    apart = [[name for name in everything if (name == "nll") == continuous] for continuous in (False, True)]
    found = {}
    for names in apart:
        images = pool([tables], names)
        values = _mean(_scores(images.sides[0], images.everyone, names))
        parts = []
        for weights, (shares,) in images.draws(samples, seed):
            scores = _scores(images.sides[0], weights, names)
            parts.append(_mean(scores) if over == "images" else _weighted(scores, shares))
        for name in names:
            value, drawn = number(float(values[name][0])), np.concatenate([part[name] for part in parts])
            low, high, reason = bounds(drawn, _defined(name, tables), level, "image")
            if value is None:
                low, high, reason = None, None, _undefined(name, tables)
            found[name] = Interval(value, low, high, level, reason, over)
    return {name: found[name] for name in everything}


def image_paired(
    baseline: ImageRuns,
    candidate: ImageRuns,
    *,
    metric: str = "top1",
    margin: float,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    over: Over | None = None,
) -> PairedDifference:
    """`candidate` minus `baseline` in `metric`, paired by image, with the verdict at `margin` (see `PairedDifference`).

    Each side is the mean over its training seeds. `over` is "images" or "images and seeds" (each side draws its own);
    None takes seeds in where both sides have two or more. `margin` is the largest loss that is still acceptable, in the
    unit of the score (0.01 is one percentage point of `top1`) and not negative; choose it before looking. Raises
    InputError for wrong arguments, or sides that were not evaluated on the same images.
    """
    check_resampling(samples, level)
    check_margin(margin, metric)
    sides = _tables({"the baseline": baseline, "the candidate": candidate})
    over = _drawn(over, sides)
    old, new = sides.values()
    score = find_score(metric, old[0].classes, CLASSIFICATION_SCORES)
    names, alike = [metric], pool([old, new], [metric])
    whole = [_mean(_scores(side, alike.everyone, names))[metric][0] for side in alike.sides]
    value = number(float(whole[1] - whole[0]))
    these, all_drawn = [], []
    for weights, shares in alike.draws(samples, seed):
        scores = [_scores(side, weights, names) for side in alike.sides]
        before, after = (_mean(one)[metric] for one in scores)
        these.append(after - before)
        before, after = (_weighted(one, share)[metric] for one, share in zip(scores, shares, strict=True))
        all_drawn.append(after - before)
    images, defined = len(old[0].ids), _defined(metric, old)
    low, high, reason = bounds(np.concatenate(these), defined, level, "image")
    runs_low, runs_high = None, None
    if over == "images and seeds":
        runs_low, runs_high = low, high
        low, high, reason = bounds(np.concatenate(all_drawn), defined, level, "image")
    if value is None:
        low, high, reason, runs_low, runs_high = None, None, _undefined(metric, [*old, *new]), None, None
    said = verdict(low, high, margin, higher_is_better=score.higher_is_better)
    return PairedDifference(
        value, low, high, margin, said, metric, images, level, reason, over, runs_low=runs_low, runs_high=runs_high
    )


def _tables(sides: dict[str, ImageRuns]) -> dict[str, list[ImageTable]]:
    """The tables of every run. Raises InputError naming the images in which a run differs from the first one."""
    runs = {name: as_runs(side, name, ImageRecord) for name, side in sides.items()}
    tables = {name: [tabulate(run) for run in side] for name, side in runs.items()}
    first, (reference, *_) = next(iter(tables.items()))
    for name, side in tables.items():
        for index, table in enumerate(side):
            which = run_name(name, index, side)
            if table.classes != reference.classes:
                raise InputError(
                    f"{which} has the classes {', '.join(table.classes[:8])}, {first} "
                    f"{', '.join(reference.classes[:8])}; only evaluations of the same classes in the same order can "
                    "be compared"
                )
            parts = [
                f"images {label}: {some(names)}"
                for label, names in (
                    ("missing", set(reference.ids) - set(table.ids)),
                    ("only there", set(table.ids) - set(reference.ids)),
                )
                if names
            ]
            if parts:
                raise InputError(
                    f"{which} was not evaluated on the images of {first}: {'; '.join(parts)}; evaluate both on the "
                    "same split"
                )
            if table.ids != reference.ids or not np.array_equal(table.labels, reference.labels):
                before = dict(zip(reference.ids, reference.labels.tolist(), strict=True))
                odd = (i for i, label in zip(table.ids, table.labels.tolist(), strict=True) if before[i] != label)
                raise InputError(
                    f"{which} has other labels than {first} for the images {some(odd)}; evaluate both on the same data"
                )
    return tables


def _drawn(over: Over | None, sides: dict[str, list[ImageTable]]) -> Over:
    """What is drawn: as asked for, or seeds too where every side has several."""
    alone = next((name for name, side in sides.items() if len(side) < 2), None)
    if over is None:
        return "images and seeds" if alone is None else "images"
    if over not in ("images", "images and seeds"):
        raise InputError(f"over={over!r}: classifications are resampled over 'images' or 'images and seeds'")
    if over == "images and seeds" and alone is not None:
        raise InputError(f"{alone} has a single training seed, so none can be drawn; use over='images', or train more")
    return over


def _scores(tables: Sequence[ImageTable], weights: Array, names: Sequence[str]) -> dict[str, Array]:
    """Scores of each run in each resample, `[s r]`."""
    runs = [scores_of(table, weights, names) for table in tables]
    return {name: np.stack([run[name] for run in runs]) for name in names}


def _mean(scores: dict[str, Array]) -> dict[str, Array]:
    """`[s r]` -> `[r]`: the mean over the seeds."""
    return {name: values.mean(axis=0) for name, values in scores.items()}


def _weighted(scores: dict[str, Array], shares: Array) -> dict[str, Array]:
    """`[s r]` -> `[r]`: the mean over the seeds that each resample drew, by their shares `[r s]`."""
    return {name: np.einsum("sr,rs->r", values, shares) for name, values in scores.items()}


def _defined(name: str, tables: Sequence[ImageTable]) -> int:
    """Images that define a score on their own."""
    label = name.partition("/")[2]
    return int(tables[0].support[tables[0].classes.index(label)]) if label else len(tables[0].ids)


def _undefined(name: str, tables: Sequence[ImageTable]) -> str:
    broken = max(int(table.columns["not_finite"].sum()) for table in tables)
    if name == "nll" and broken:
        return f"the outputs for {broken} images are not finite, so it is not defined"
    return "no image defines this score"
