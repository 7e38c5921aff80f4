"""Choice of the cases or images that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Rank = Literal["best", "median", "worst"]


def best_median_worst(ordered: Sequence[tuple[float, str]]) -> dict[Rank, tuple[str, float]]:
    """Return first, middle and last of scores and names sorted from best to worst, without repetition."""
    places: dict[Rank, int] = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    shown: dict[Rank, tuple[str, float]] = {}
    for rank, place in places.items():
        if ordered and all(ordered[place][1] != case for case, _ in shown.values()):
            shown[rank] = (ordered[place][1], ordered[place][0])
    return shown
