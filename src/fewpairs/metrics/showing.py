"""Which cases and images show best what a model can do and what it cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from fewpairs.metrics.detection_records import PictureRecord
from fewpairs.metrics.detection_scores import detection_scores
from fewpairs.metrics.empty import EmptyRule
from fewpairs.metrics.scene_records import SceneRecord
from fewpairs.metrics.scene_scores import scene_scores
from fewpairs.metrics.score import find_score
from fewpairs.metrics.scores import scores_by_case
from fewpairs.metrics.statistics import ScanStatistics

Rank = Literal["best", "median", "worst"]

_LOOKED_AT = 500
"""Images that are scored one by one at most, spread evenly over all."""


def ranked_cases(
    records: Sequence[ScanStatistics], score: str, rule: EmptyRule = EmptyRule.STRICT
) -> dict[Rank, tuple[str, float]]:
    """The best, the median and the worst case by `score`, with its value; fewer entries where there are fewer cases."""
    scored = [
        (value[score], case)
        for case, value in scores_by_case(records, rule=rule).items()
        if not math.isnan(value[score])
    ]
    return _ends(sorted(scored, reverse=find_score(score, records[0].classes).higher_is_better))


def ranked_scenes(records: Sequence[SceneRecord], score: str) -> dict[Rank, tuple[str, float]]:
    """The best, the median and the worst image by `score` of its own pixels, with its value."""
    valued = [(scene_scores([record])[score], record.id) for record in records]
    return _ends(sorted((pair for pair in valued if not math.isnan(pair[0])), reverse=True))


def ranked_pictures(
    records: Sequence[PictureRecord], score: str, *, max_detections: int = 100
) -> dict[Rank, tuple[str, float]]:
    """The best, the median and the worst image by a score of its own; fewer entries where there are fewer images.

    An image without objects that the score is about has none, and is not shown. Of very many images every second, third
    and so on is looked at.
    """
    scored = []
    for record in records[:: math.ceil(len(records) / _LOOKED_AT) or 1]:
        value = detection_scores([record], max_detections=max_detections).get(score, math.nan)
        if not math.isnan(value):
            scored.append((value, record.id))
    return _ends(sorted(scored, key=lambda pair: (-pair[0], pair[1])))


def _ends(ordered: Sequence[tuple[float, str]]) -> dict[Rank, tuple[str, float]]:
    """First, middle and last of what is sorted from best to worst; fewer where there are fewer."""
    places: dict[Rank, int] = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    shown: dict[Rank, tuple[str, float]] = {}
    for rank, place in places.items():
        if ordered and all(ordered[place][1] != case for case, _ in shown.values()):
            shown[rank] = (ordered[place][1], ordered[place][0])
    return shown
