"""Titles, units, numbers and verdicts of scores as text for all reports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from fewpairs.numbers import change_percent, number, signed
from fewpairs.report.comparison import Comparison, Row
from fewpairs.report.estimate import Difference
from fewpairs.scoring.score_table import SCORES, Score
from fewpairs.scoring.verdict import RunsVerdict, exceeds, missing_evidence, read_interval, speaks_of, verdict_in_runs

VerdictKind = Literal["better", "worse", "non-inferior", "inconclusive", "no variation", "not computed"] | RunsVerdict
_DIGITS = {"": 3, "%": 2, "mm": 2, "nats": 3}


def describe(name: str) -> Score:
    """Return the score by its name or the part before the slash; higher is better for an unknown score."""
    base = name.partition("/")[0]
    return SCORES.get(base) or Score(base, base, "", True, "")


def digits(name: str) -> int:
    """The number of decimals: three for shares, two for percent and millimetres."""
    return _DIGITS[describe(name).unit]


def scale(name: str) -> float:
    """The factor by which a score is multiplied when shown: 100 for one in percent."""
    return 100.0 if describe(name).unit == "%" else 1.0


def score(name: str, value: float | None) -> str:
    """A score as a number in its unit, without the unit."""
    return number(None if value is None else scale(name) * value, digits(name))


def difference(name: str, value: float | None) -> str:
    """A difference of a score with its sign, in the unit of `difference_unit`."""
    return signed(None if value is None else scale(name) * value, digits(name))


def span(name: str, low: float | None, high: float | None) -> str:
    """The interval of a score or difference, or an empty text without one."""
    return "" if low is None or high is None else f"{score(name, low)} to {score(name, high)}"


def difference_unit(name: str) -> str:
    """The unit of a difference: points for a score in percent."""
    unit = describe(name).unit
    return "points" if unit == "%" else unit


def margin(name: str, value: float) -> str:
    """A margin with its unit, such as `0.5 points`."""
    return f"{scale(name) * value:g} {difference_unit(name)}".strip()


def title(name: str) -> str:
    """The score's title with its unit, such as `HD95 (mm)`."""
    score = describe(name)
    return f"{score.title} ({score.unit})" if score.unit else score.title


def macro_scores(rows: Iterable[Row]) -> list[str]:
    """Names of the scores over all classes that any row has: known scores in their order, then the others."""
    present = {name: None for row in rows for name in row.scores if "/" not in name}
    return [name for name in SCORES if name in present] + [name for name in present if name not in SCORES]


def class_scores(rows: Iterable[Row], name: str) -> list[str]:
    """Names `<name>/<class>` that any row has, in the order of their first appearance."""
    return list({key: None for row in rows for key in row.scores if key.startswith(f"{name}/")})


def verdict_kind(name: str, found: Difference) -> VerdictKind:
    """Better, worse or non-inferior where interval, seeds and units carry it; else what is so in these runs."""
    ends = _ends(found)
    if ends is None:
        return "not computed"
    low, high = ends
    if math.isclose(low, high, rel_tol=1e-12):
        return "no variation"
    higher_is_better = describe(name).higher_is_better
    if missing_evidence(found.over or "cases", found.seeds, found.units):
        read = read_interval(low, high, found.margin, higher_is_better=higher_is_better)
        return verdict_in_runs(low, high, read)
    worst, best = (low, high) if higher_is_better else (-high, -low)
    if worst > 0:
        return "better"
    if best < 0:
        return "worse"
    return "non-inferior" if exceeds(worst, -found.margin) else "inconclusive"


def verdict(name: str, found: Difference) -> str:
    """The verdict in a few words, for a table cell."""
    kind = verdict_kind(name, found)
    return f"worse{_how_much_worse(name, found)}" if kind == "worse" else str(kind)


def _how_much_worse(name: str, found: Difference) -> str:
    low, high = _ends(found) or (math.nan, math.nan)
    worst, best = (low, high) if describe(name).higher_is_better else (-high, -low)
    if exceeds(worst, -found.margin):
        return ", within the margin"
    return ", beyond the margin" if exceeds(-found.margin, best) else ""


def headline(comparison: Comparison, row: Row) -> str:
    """The result of one row in sentences: its cost, the difference of its headline score, and what that speaks of."""
    name, reference = comparison.headline, comparison.reference
    parameters = _change(row.parameters, reference.parameters, "parameters")
    multiply_adds = _change(row.macs, reference.macs, "multiply-adds")
    cost = f"Against {reference.label}: {parameters}, {multiply_adds}."
    found = (row.differences or {}).get(name)
    if found is None:
        return f"{cost} No paired difference of {describe(name).title} was computed."
    return f"{cost} {_outcome(name, found, comparison.confidence, found.over or comparison.resampled)}"


def _outcome(name: str, found: Difference, confidence: float, over: str) -> str:
    title, largest = describe(name).title, margin(name, found.margin)
    kind, unit = verdict_kind(name, found), f" {difference_unit(name)}".rstrip()
    value = f"{difference(name, found.value)}{unit}"
    speaks = speaks_of(over, found.seeds, found.units)
    if kind == "not computed":
        return f"No interval for its difference of {title} could be computed, so nothing is said about it."
    if kind == "no variation":
        return (
            f"{title} differs by {value} in every resample ({speaks}): without variation the interval has no width, "
            "and nothing is ruled out."
        )
    numbers = f"{value}, {100 * confidence:g} % interval {span(name, found.low, found.high)}: {speaks}"
    needs = " and ".join(missing_evidence(over, found.seeds, found.units))
    needs = f" To speak of the method takes {needs}." if needs else ""
    if kind in ("higher in these runs", "lower in these runs"):
        return f"{title} is {kind} ({numbers}).{needs}"
    if kind == "better":
        return f"{title} is better ({numbers})."
    if kind == "worse":
        how = {", within the margin": f", but by less than the margin of {largest}"}
        how[", beyond the margin"] = f" by more than the margin of {largest}"
        return f"{title} is worse{how.get(_how_much_worse(name, found), '')} ({numbers})."
    shown = f"No difference of {title} is shown ({numbers})"
    if kind == "non-inferior":
        return f"{shown}, and a loss of {largest} or more is ruled out."
    if kind == "within the margin in these runs":
        return f"{shown}, and the interval leaves out a loss of {largest}.{needs}"
    return f"{shown}, but a loss of {largest} is not ruled out either.{needs}"


def _ends(found: Difference) -> tuple[float, float] | None:
    """The ends that a verdict reads; None without an interval."""
    low = found.low if found.sure_low is None else found.sure_low
    high = found.high if found.sure_high is None else found.sure_high
    return None if low is None or high is None or math.isnan(low) or math.isnan(high) else (low, high)


def _change(value: float, reference: float, what: str) -> str:
    change = change_percent(value, reference)
    if change is None or abs(change) < 0.05:
        return f"as many {what}"
    return f"{abs(change):.1f} % {'fewer' if change < 0 else 'more'} {what}"
