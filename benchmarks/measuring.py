"""What the older benchmarks share: spreads and ratios by round. The rest is `fewpairs.bench.machine`."""

from __future__ import annotations

from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = quantiles(values, n=4)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def ratio(values: list[float], base: list[float]) -> dict[str, float]:
    """How many times as long as `base`: of the medians, and the lowest and highest of any round."""
    by_round = [a / b for a, b in zip(values, base, strict=True)]
    return {"of_medians": median(values) / median(base), "lowest": min(by_round), "highest": max(by_round)}
