"""Intervals of a detection's scores, and the paired comparison of two detectors on the same images.

Percentile bootstraps over "images", or over "images and seeds", as `image_bootstrap` explains. AP is no mean over
images, so it is made anew in each resample, from matches that are made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fewpairs.errors import InputError
from fewpairs.kinds.detection.matching import MAX_DETECTIONS
from fewpairs.kinds.detection.record import PictureRecord
from fewpairs.kinds.detection.scores import NOT_FINITE, Judgements
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
from fewpairs.scoring.score_table import DETECTION_SCORES, find_score

PictureRuns = Sequence[PictureRecord] | Sequence[Sequence[PictureRecord]]
"""The records of one evaluation, or one such list for each training seed."""

_CELLS = 2**20
"""Numbers that a block of resamples holds at once for one class, which bounds the memory to some tens of MiB."""


def detection_intervals(
    records: PictureRuns,
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    over: Over | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Interval]:
    """Every score with its bootstrap interval; the same records and seed give the same intervals.

    With several training seeds the value is the mean over them. `over` is "images" or "images and seeds"; None takes
    seeds in where there are two or more. Scores that fewer than two images define get no interval. Raises InputError
    for wrong arguments, seeds evaluated on different images, or seeds to draw where there is one.
    """
    check_resampling(samples, level)
    sides = _judged({"the evaluation": records}, max_detections)
    over = _drawn(over, sides)
    (runs,) = sides.values()
    names = _names(runs)
    whole = _scores(runs, np.ones((1, len(runs[0].ids))), names)
    drawn: dict[str, list[Array]] = {name: [] for name in names}
    for weights, (shares,) in _draws([runs], samples, seed):
        scores = _scores(runs, weights, names)
        for name in names:
            drawn[name].append(_mean(scores[name], None if over == "images" else shares))
    found = {}
    for name in names:
        value = number(float(_mean(whole[name], None)[0]))
        low, high, reason = bounds(np.concatenate(drawn[name]), int(runs[0].defining(name).sum()), level, "image")
        if value is None:
            low, high, reason = None, None, "no image holds an object that this score is about"
        found[name] = Interval(value, low, high, level, reason, over)
    return found


def detection_paired(
    baseline: PictureRuns,
    candidate: PictureRuns,
    *,
    metric: str = "ap",
    margin: float,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    over: Over | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> PairedDifference:
    """`candidate` minus `baseline` in `metric`, paired by image, with the verdict at `margin` (see `PairedDifference`).

    Each side is the mean over its training seeds. `over` is "images" or "images and seeds" (each side draws its own);
    None takes seeds in where both sides have two or more. `margin` is the largest loss that is still acceptable (0.01
    is one point of AP) and not negative; choose it before looking. Raises InputError for wrong arguments, or sides
    that were not evaluated on the same images with the same truth.
    """
    check_resampling(samples, level)
    check_margin(margin, metric)
    sides = _judged({"the baseline": baseline, "the candidate": candidate}, max_detections)
    over = _drawn(over, sides)
    old, new = sides.values()
    known = {name: score for name, score in DETECTION_SCORES.items() if name in old[0].names}
    score = find_score(metric, old[0].classes, known)
    everyone = np.ones((1, len(old[0].ids)))
    before, after = (_mean(_scores(side, everyone, [metric])[metric], None) for side in (old, new))
    value = number(float(after[0] - before[0]))
    these, everything = [], []
    for weights, shares in _draws([old, new], samples, seed):
        scores = [_scores(side, weights, [metric])[metric] for side in (old, new)]
        these.append(_mean(scores[1], None) - _mean(scores[0], None))
        everything.append(_mean(scores[1], shares[1]) - _mean(scores[0], shares[0]))
    defined = int(old[0].defining(metric).sum())
    low, high, reason = bounds(np.concatenate(these), defined, level, "image")
    runs_low, runs_high = None, None
    if over == "images and seeds":
        runs_low, runs_high = low, high
        low, high, reason = bounds(np.concatenate(everything), defined, level, "image")
    if value is None:
        low = high = runs_low = runs_high = None
        reason = "no image holds an object that this score is about"
    said = verdict(low, high, margin, higher_is_better=score.higher_is_better)
    images = len(old[0].ids)
    return PairedDifference(
        value, low, high, margin, said, metric, images, level, reason, over, runs_low=runs_low, runs_high=runs_high
    )


def _judged(sides: dict[str, PictureRuns], max_detections: int) -> dict[str, list[Judgements]]:
    """The matches of every run. Raises InputError naming the images in which a run differs from the first one."""
    runs = {name: as_runs(side, name, PictureRecord) for name, side in sides.items()}
    judged = {name: [Judgements(run, max_detections=max_detections) for run in side] for name, side in runs.items()}
    first, (reference, *_) = next(iter(judged.items()))
    truth = dict(zip(reference.ids, reference.truth, strict=True))
    for name, side in judged.items():
        for index, run in enumerate(side):
            which = run_name(name, index, side)
            if run.classes != reference.classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run.classes[:8])}, {first} "
                    f"{', '.join(reference.classes[:8])}; only evaluations of the same classes in the same order can "
                    "be compared"
                )
            differences = [
                f"images {label}: {some(names)}"
                for label, names in (
                    ("missing", set(reference.ids) - set(run.ids)),
                    ("only there", set(run.ids) - set(reference.ids)),
                )
                if names
            ]
            if differences:
                raise InputError(
                    f"{which} was not evaluated on the images of {first}: {'; '.join(differences)}; evaluate both on "
                    "the same split"
                )
            odd = [image for image, one in zip(run.ids, run.truth, strict=True) if not _same(one, truth[image])]
            if odd:
                raise InputError(
                    f"{which} has another truth than {first} for the images {some(odd)}; evaluate both on the same data"
                )
    return judged


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two truths are equal, apart from masks that one of them does not have."""
    return one[:-1] == other[:-1] and (one[-1] == other[-1] or None in (one[-1], other[-1]))


def _names(runs: Sequence[Judgements]) -> list[str]:
    """The scores that all runs have, and what one of them counted."""
    shared = [name for name in runs[0].names if name != NOT_FINITE and all(name in run.names for run in runs)]
    return shared + [NOT_FINITE] * any(NOT_FINITE in run.names for run in runs)


def _drawn(over: Over | None, sides: dict[str, list[Judgements]]) -> Over:
    """What is drawn: as asked for, or seeds too where every side has several."""
    alone = next((name for name, side in sides.items() if len(side) < 2), None)
    if over is None:
        return "images and seeds" if alone is None else "images"
    if over not in ("images", "images and seeds"):
        raise InputError(f"over={over!r}: detections are resampled over 'images' or 'images and seeds'")
    if over == "images and seeds" and alone is not None:
        raise InputError(f"{alone} has a single training seed, so none can be drawn; use over='images', or train more")
    return over


def _draws(sides: Sequence[Sequence[Judgements]], samples: int, seed: int) -> Iterator[tuple[Array, list[Array]]]:
    """Blocks of resamples: how often each image is drawn `[r n]`, and for each side the shares of its seeds `[r s]`.

    Images and the seeds of each side have random streams of their own, so the images are the same whatever else is
    drawn.
    """
    images = len(sides[0][0].ids)
    longest = max(
        (len(c.image) for side in sides for run in side for m in run.matches.values() for c in m.curves.values()),
        default=1,
    )
    rows = max(1, _CELLS // max(longest, images))
    generator, *others = (np.random.default_rng((seed, stream)) for stream in range(1 + len(sides)))
    for start in range(0, samples, rows):
        count = min(rows, samples - start)
        weights = generator.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)
        shares = [
            other.multinomial(len(side), np.full(len(side), 1 / len(side)), size=count) / len(side)
            for other, side in zip(others, sides, strict=True)
        ]
        yield weights, shares


def _scores(runs: Sequence[Judgements], weights: Array, names: Sequence[str]) -> dict[str, Array]:
    """Scores of each run in each resample, `[s r]`."""
    found = [run.scores(weights, names) for run in runs]
    return {name: np.stack([one[name] for one in found]) for name in names}


def _mean(scores: Array, shares: Array | None) -> Array:
    """`[s r]` -> `[r]`: the mean over the seeds, or over those that each resample drew, by their shares `[r s]`."""
    return scores.mean(axis=0) if shares is None else np.einsum("sr,rs->r", scores, shares)
