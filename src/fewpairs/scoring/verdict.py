"""Verdicts on paired differences: what an interval shows, and what its trainings and units can carry.

An interval that leaves out zero shows a difference between the runs that were made. It says "this method is better"
only if it comes from enough trainings and enough cases or images:

- six seeds on each side: the two-sided sign test over pairs of seeds cannot reach p < 0.05 with fewer (its smallest p
  is `2 / 2^seeds`: 0.0625 with five, 0.031 with six);
- twenty units: percentile intervals over fewer are too narrow.

With less the verdict is about these runs, and it says what is missing.
"""

from __future__ import annotations

import math
from typing import Literal

LEAST_SEEDS = 6
"""Number of training seeds on each side below which a verdict does not speak of the method."""
LEAST_UNITS = 20
"""Number of cases or images below which a verdict does not speak of the method."""

Reading = Literal["superior", "non-inferior", "inferior", "inconclusive"]
RunsVerdict = Literal["higher in these runs", "lower in these runs", "within the margin in these runs"]
Verdict = Reading | RunsVerdict | Literal["no variation"]


def read_interval(low: float | None, high: float | None, margin: float, *, higher_is_better: bool) -> Reading:
    """Return where the interval of a difference lies (see `PairedDifference`)."""
    if low is None or high is None:
        return "inconclusive"
    worst, best = (low, high) if higher_is_better else (-high, -low)
    if worst > 0:
        return "superior"
    if exceeds(worst, -margin):
        return "non-inferior"
    return "inferior" if exceeds(-margin, best) else "inconclusive"


def exceeds(one: float, other: float) -> bool:
    """Return whether a number is above another by more than rounding."""
    return one > other and not math.isclose(one, other, rel_tol=1e-9)


def verdict(
    low: float | None,
    high: float | None,
    margin: float,
    *,
    higher_is_better: bool,
    over: str,
    seeds: int | None,
    units: int | None,
) -> Verdict:
    """Return what may be said of a difference with this interval, drawn over `over` from so many seeds and units.

    `seeds` counts those of the side that has fewer. None for a number stands for one that was not recorded, which
    counts as too few.
    """
    if low is not None and high is not None and math.isclose(low, high, rel_tol=1e-12):
        return "no variation"
    read = read_interval(low, high, margin, higher_is_better=higher_is_better)
    return verdict_in_runs(low, high, read) if missing_evidence(over, seeds, units) else read


def verdict_in_runs(low: float | None, high: float | None, read: Reading) -> RunsVerdict | Literal["inconclusive"]:
    """Return what a reading says of these runs alone. "Higher" and "lower" are of the score's own values."""
    if low is not None and low > 0:
        return "higher in these runs"
    if high is not None and high < 0:
        return "lower in these runs"
    return "within the margin in these runs" if read == "non-inferior" else "inconclusive"


def missing_evidence(over: str, seeds: int | None, units: int | None) -> list[str]:
    """Return what a claim about the method lacks, such as `6 seeds a side (2 here)`; empty if nothing is missing."""
    unit, _, drawn = over.partition(" and ")
    needed = ((seeds, LEAST_SEEDS, "seeds a side"), (units, LEAST_UNITS, unit))
    missing = [
        f"{least} {what} ({'not recorded' if there is None else f'{there} here'})"
        for there, least, what in needed
        if there is None or there < least
    ]
    if not drawn and seeds is not None and seeds >= LEAST_SEEDS:
        missing.insert(0, f"an interval over {unit} and seeds")
    return missing


def speaks_of(over: str, seeds: int | None, units: int | None) -> str:
    """Return of what an interval over `over` speaks: `these trainings, 20 cases`."""
    unit, _, drawn = over.partition(" and ")
    counted = unit if units is None else f"{units} {unit if units != 1 else unit[:-1]}"
    if not drawn:
        return f"these trainings, {counted}"
    several = "several" if seeds is None else str(seeds)
    return f"other trainings too, by {several} seeds a side, {counted}"
