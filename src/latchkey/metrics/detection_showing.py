"""Which images show best what a detector can do and what it cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latchkey.metrics.detection_records import PictureRecord
from latchkey.metrics.detection_scores import detection_scores

Rank = str

_LOOKED_AT = 500
"""Images that are scored one by one at most, spread evenly over all."""


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
    ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    places: dict[Rank, int] = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    shown: dict[Rank, tuple[str, float]] = {}
    for rank, place in places.items():
        if ordered and all(ordered[place][1] != name for name, _ in shown.values()):
            shown[rank] = (ordered[place][1], ordered[place][0])
    return shown
