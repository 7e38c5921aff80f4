"""The metric that an evaluation of label maps feeds, and how its records become scores, intervals and differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.semantic.record import (
    SceneRecord,
    load_scene_records,
    merge_scene_records,
    save_scene_records,
    scene_confusions,
    scene_record,
)
from fewpairs.kinds.semantic.scores import SceneSums, scene_scores, scene_scores_of, sum_scenes
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
from fewpairs.scoring.score_table import SEMANTIC_SCORES, find_score
from fewpairs.types import Scene

Unit = Literal["images", "cases"]

_ROWS = 500
"""Resamples scored at once, which bounds the memory."""


class SemanticMetric:
    """Collects one record an image; every score is made from their sums at the end, whatever the batches were."""

    def __init__(self, classes: Sequence[str]) -> None:
        if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) != len(classes):
            raise InputError(f"classes must be a list of different names, at least two; got {classes!r}")
        self.classes = tuple(classes)
        self._records: list[SceneRecord] = []

    def update(self, prediction: Tensor, item: Scene) -> SceneRecord:
        """Count one image; `prediction` is `[1 H W]` class indices at the size of its labels. Returns its record."""
        if prediction.ndim != 3 or len(prediction) != 1:
            raise InputError(f"{item.id}: expected one label map [1 H W], got {list(prediction.shape)}")
        record = scene_record(prediction[0], item.label, id=item.id, case=item.case, classes=self.classes)
        self._records.append(record)
        return record

    def merge(self, records: Iterable[SceneRecord]) -> None:
        """Take in records that another process made; images that are here already must agree and count once."""
        self._records = merge_scene_records([*self._records, *records])

    @property
    def records(self) -> list[SceneRecord]:
        """One record an image, sorted by name."""
        return merge_scene_records(self._records)

    def compute(self) -> dict[str, float]:
        """Every score by name (see `SEMANTIC_SCORES`); NaN where a score is not defined."""
        return scene_scores(self._records)


@dataclass(frozen=True)
class SemanticScoring:
    """Scores of label maps over a whole evaluation set.

    Intervals are percentile bootstraps over images, or over patients where `unit` is "cases": every resample adds up
    the confusion counts of what it drew and scores the sums, so a mean IoU is always that of a whole set, never a
    mean over images. Training seeds of one side are averaged inside each resample.
    """

    unit: Unit = "images"

    headline = "miou"
    compared = ("miou", "macc", "aacc")

    @property
    def rule(self) -> str:
        return (
            "Mean IoU adds up the pixels of all images first; a class that neither truth nor predictions hold is left "
            "out of the mean."
        )

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Raises InputError unless there is a score of this name."""
        find_score(name, classes, SEMANTIC_SCORES)

    def higher_is_better(self, name: str) -> bool | None:
        """None where no score has this name."""
        score = SEMANTIC_SCORES.get(name.partition("/")[0])
        return None if score is None else score.higher_is_better

    def count(self, records: Sequence[SceneRecord]) -> int:
        """How many independent images or cases the records are of."""
        return len({record.case for record in records})

    def scores(self, records: Sequence[SceneRecord]) -> dict[str, float]:
        """Every score by name; NaN where one is not defined."""
        return scene_scores(records)

    def intervals(
        self, runs: Sequence[Any], *, samples: int, seed: int = 0, level: float = 0.95
    ) -> dict[str, Interval]:
        """Every score with its interval.

        Raises:
            InputError: too few `samples`, an impossible `level`, or seeds that were evaluated on different images.
        """
        check_resampling(samples, level)
        (side,) = _sums({"the evaluation": runs})
        values, drawn, defined = self._draw(side, samples, seed)
        result = {}
        for name, value in values.items():
            low, high, reason = bounds(drawn[name], defined[name], level, self._one)
            point = number(float(value[0]))
            why = f"no {self._one} defines this score" if point is None else reason
            result[name] = Interval(point, low, high, level, why, self.unit)
        return result

    def paired(
        self,
        baseline: Sequence[Any],
        candidate: Sequence[Any],
        *,
        metric: str,
        margin: float,
        samples: int,
        seed: int = 0,
        level: float = 0.95,
    ) -> PairedDifference:
        """`candidate` minus `baseline` in `metric`, both scored on the same draws of images or cases.

        Raises:
            InputError: wrong arguments, or sides that were not evaluated on the same images.
        """
        check_resampling(samples, level)
        check_margin(margin, metric)
        old, new = _sums({"the baseline": baseline, "the candidate": candidate})
        score = find_score(metric, old[0].classes, SEMANTIC_SCORES)
        before, before_drawn, before_defined = self._draw(old, samples, seed)
        after, after_drawn, after_defined = self._draw(new, samples, seed)
        value = number(float((after[metric] - before[metric])[0]))
        defined = min(before_defined[metric], after_defined[metric])
        low, high, reason = bounds(after_drawn[metric] - before_drawn[metric], defined, level, self._one)
        if value is None:
            low, high, reason = None, None, f"no {self._one} defines this score on both sides"
        said = verdict(low, high, margin, higher_is_better=score.higher_is_better)
        return PairedDifference(value, low, high, margin, said, metric, len(old[0].cases), level, reason, self.unit)

    def confusions(self, records: Sequence[SceneRecord]) -> tuple[tuple[int, int, int], ...]:
        """(true class, predicted class, pixels)."""
        return scene_confusions(records)

    def save(self, records: Sequence[SceneRecord], path: Path) -> None:
        """Write the records as JSON lines."""
        save_scene_records(records, path)

    def load(self, path: Path) -> list[SceneRecord]:
        """Read what `save` wrote."""
        return load_scene_records(path)

    @property
    def _one(self) -> Literal["image", "case"]:
        return "image" if self.unit == "images" else "case"

    def _draw(
        self, side: Sequence[SceneSums], samples: int, seed: int
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, int]]:
        """Scores of all cases `[1]` and of each resample `[samples]`, and how many cases define each on their own."""
        cases = len(side[0].cases)
        generator = np.random.default_rng(seed)
        weights = generator.multinomial(cases, np.full(cases, 1 / cases), size=samples).astype(np.float64)
        blocks = [_average(side, weights[start : start + _ROWS]) for start in range(0, samples, _ROWS)]
        drawn = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        alone = [scene_scores_of(run.arrays, run.classes) for run in side]
        defined = {name: int(np.all(~np.isnan([one[name] for one in alone]), axis=0).sum()) for name in alone[0]}
        return _average(side, np.ones((1, cases))), drawn, defined


def _average(side: Sequence[SceneSums], weights: Array) -> dict[str, Array]:
    """Scores of each resample `[samples cases]`, averaged over the runs of a side."""
    scored = [scene_scores_of(run.resample(weights), run.classes) for run in side]
    return {name: np.mean([scores[name] for scores in scored], axis=0) for name in scored[0]}


def _sums(sides: dict[str, Sequence[Any]]) -> list[list[SceneSums]]:
    """The sums of every run. Raises InputError naming the images in which a run differs from the first one."""
    runs = {name: as_runs(side, name, SceneRecord) for name, side in sides.items()}
    first, (reference, *_) = next(iter(runs.items()))
    images = {record.id: record.case for record in reference}
    for name, side in runs.items():
        for index, run in enumerate(side):
            which = run_name(name, index, side)
            if run[0].classes != reference[0].classes:
                raise InputError(
                    f"{which} has the classes {', '.join(run[0].classes[:8])}, {first} "
                    f"{', '.join(reference[0].classes[:8])}; only evaluations of the same classes, in one order, can "
                    "be compared"
                )
            here = {record.id: record.case for record in run}
            if here != images:
                odd = some(one for one in images.keys() | here.keys() if images.get(one) != here.get(one))
                raise InputError(f"{which} was not evaluated on the images of {first}: {odd}; evaluate both alike")
    return [[sum_scenes(run) for run in side] for side in runs.values()]
