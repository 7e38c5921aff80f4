"""Titles, units, numbers and verdicts of scores as text for all reports."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from fewpairs.numbers import change_percent, number, signed
from fewpairs.report.comparison import Row
from fewpairs.report.estimate import Difference
from fewpairs.scoring.score_table import SCORES, Score

VerdictKind = Literal["better", "worse", "non-inferior", "inconclusive", "not computed"]
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
    """Better or worse where the interval excludes zero; non-inferior where it excludes a loss of the margin."""
    gain = _gain(name, found)
    if gain is None:
        return "not computed"
    low, high = gain
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "non-inferior" if low > -found.margin else "inconclusive"


def verdict(name: str, found: Difference) -> str:
    """The verdict in a few words, for a table cell."""
    kind, gain = verdict_kind(name, found), _gain(name, found)
    if kind == "worse" and gain is not None:
        if gain[0] > -found.margin:
            return "worse, within the margin"
        return "worse, beyond the margin" if gain[1] < -found.margin else "worse"
    return str(kind)


def headline(row: Row, reference: Row, name: str, confidence: float = 0.95) -> str:
    """The result of one row in two sentences: its cost and the difference of its score."""
    parameters = _change(row.parameters, reference.parameters, "parameters")
    multiply_adds = _change(row.macs, reference.macs, "multiply-adds")
    cost = f"Against {reference.label}: {parameters}, {multiply_adds}."
    found = (row.differences or {}).get(name)
    if found is None:
        return f"{cost} No paired difference of {describe(name).title} was computed."
    return f"{cost} {_outcome(name, found, confidence)}"


def _outcome(name: str, found: Difference, confidence: float) -> str:
    title, largest = describe(name).title, margin(name, found.margin)
    kind, gain = verdict_kind(name, found), _gain(name, found)
    if gain is None:
        return f"No interval for its difference of {title} could be computed, so nothing is said about it."
    over = f" over {found.over}" if "and" in found.over else ""
    unit = f" {difference_unit(name)}".rstrip()
    ends = f"{100 * confidence:g} % interval{over} {span(name, found.low, found.high)}"
    numbers = f"{difference(name, found.value)}{unit}, {ends}"
    if kind == "better":
        return f"{title} is better ({numbers})."
    if kind == "worse":
        if gain[0] > -found.margin:
            return f"{title} is worse, but by less than the margin of {largest} ({numbers})."
        beyond = f" by more than the margin of {largest}" if gain[1] < -found.margin else ""
        return f"{title} is worse{beyond} ({numbers})."
    shown = f"No difference of {title} is shown ({numbers})"
    if kind == "non-inferior":
        return f"{shown}, and a loss of {largest} or more is ruled out."
    return f"{shown}, but a loss of {largest} is not ruled out either."


def _gain(name: str, found: Difference) -> tuple[float, float] | None:
    """The interval with its sign turned so that higher is better; None without an interval."""
    low, high = found.low, found.high
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return (low, high) if describe(name).higher_is_better else (-high, -low)


def _change(value: float, reference: float, what: str) -> str:
    change = change_percent(value, reference)
    if change is None or abs(change) < 0.05:
        return f"as many {what}"
    return f"{abs(change):.1f} % {'fewer' if change < 0 else 'more'} {what}"
