"""How scores are named, written and judged in words, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from latchkey.metrics import SCORES, Score
from latchkey.report.comparison import Difference, Row, change_percent

MINUS = "−"
MISSING = "–"

Judgement = Literal["better", "worse", "non-inferior", "inconclusive", "not computed"]
MAIN = ("jaccard", "jaccard_weighted", "dice", "hd95_mm")
"""The scores of the summary; the others go into a table of their own."""


def describe(name: str) -> Score:
    """The score of that name (or of the part before the slash); an unknown one is shown as it is, higher is better."""
    base = name.partition("/")[0]
    return SCORES.get(base) or Score(base, base, "", True, False, False, "")


def digits(name: str) -> int:
    """Decimals to show: three for shares, two for millimetres."""
    return 2 if describe(name).unit else 3


def title(name: str) -> str:
    """The score's title with its unit, such as `HD95 (mm)`."""
    score = describe(name)
    return f"{score.title} ({score.unit})" if score.unit else score.title


def macro_scores(rows: Iterable[Row]) -> list[str]:
    """Names of the scores over all classes that any row has: the known ones in their order, then the others."""
    present = {name: None for row in rows for name in row.scores if "/" not in name}
    return [name for name in SCORES if name in present] + [name for name in present if name not in SCORES]


def class_scores(rows: Iterable[Row], name: str) -> list[str]:
    """Names `<name>/<class>` that any row has, in the order of their first appearance."""
    return list({key: None for row in rows for key in row.scores if key.startswith(f"{name}/")})


def number(value: float | None, decimals: int = 3) -> str:
    """A number with a true minus sign; a dash when it is missing."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def signed(value: float | None, decimals: int = 3) -> str:
    """A number with its sign, plus included."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def percent(value: float, reference: float) -> str:
    """Change from `reference` to `value`, such as `−8.3 %`."""
    change = change_percent(value, reference)
    return MISSING if change is None else f"{signed(change, 1)} %"


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """`low to high` (no dash, which would read as a minus sign); nothing where there is no interval."""
    return "" if low is None or high is None else f"{number(low, decimals)} to {number(high, decimals)}"


def millions(value: float) -> str:
    """`85.80 M`: parameters."""
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value / 1e3:.2f} k"


def macs(value: float) -> str:
    """`17.47 G`: multiply-adds."""
    return f"{value / 1e9:.2f} G" if value >= 1e8 else f"{value / 1e6:.2f} M"


def judge(name: str, difference: Difference) -> Judgement:
    """Better or worse only where the interval excludes zero; non-inferior where it excludes a loss of the margin."""
    gain = _gain(name, difference)
    if gain is None:
        return "not computed"
    low, high = gain
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "non-inferior" if low > -difference.margin else "inconclusive"


def verdict(name: str, difference: Difference) -> str:
    """The judgement in a few words, for a table cell."""
    judgement, gain = judge(name, difference), _gain(name, difference)
    if judgement == "worse" and gain is not None:
        if gain[0] > -difference.margin:
            return "worse, within the margin"
        return "worse, beyond the margin" if gain[1] < -difference.margin else "worse"
    return str(judgement)


def headline(row: Row, reference: Row, name: str, confidence: float = 0.95) -> str:
    """The result of one row in two sentences: what it costs, and what can be said about its score."""
    parameters = _change(row.parameters, reference.parameters, "parameters")
    multiply_adds = _change(row.macs, reference.macs, "multiply-adds")
    cost = f"Against {reference.label}: {parameters}, {multiply_adds}."
    difference = (row.differences or {}).get(name)
    if difference is None:
        return f"{cost} No paired difference of {describe(name).title} was computed."
    return f"{cost} {_outcome(name, difference, confidence)}"


def _outcome(name: str, difference: Difference, confidence: float) -> str:
    score, decimals = describe(name), digits(name)
    judgement, gain = judge(name, difference), _gain(name, difference)
    if gain is None:
        return f"No interval for its difference of {score.title} could be computed, so nothing is said about it."
    unit = f" {score.unit}" if score.unit else ""
    margin = f"{difference.margin:g}{unit}"
    span = f"{100 * confidence:g} % interval {interval(difference.low, difference.high, decimals)}"
    numbers = f"{signed(difference.value, decimals)}{unit}, {span}"
    if judgement == "better":
        return f"{score.title} is better ({numbers})."
    if judgement == "worse":
        if gain[0] > -difference.margin:
            return f"{score.title} is worse, but by less than the margin of {margin} ({numbers})."
        beyond = f" by more than the margin of {margin}" if gain[1] < -difference.margin else ""
        return f"{score.title} is worse{beyond} ({numbers})."
    shown = f"No difference of {score.title} is shown ({numbers})"
    if judgement == "non-inferior":
        return f"{shown}, and a loss of {margin} or more is ruled out."
    return f"{shown}, but a loss of {margin} is not ruled out either."


def _gain(name: str, difference: Difference) -> tuple[float, float] | None:
    """The interval turned so that more is better; None when there is none."""
    low, high = difference.low, difference.high
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return (low, high) if describe(name).higher_is_better else (-high, -low)


def _change(value: float, reference: float, what: str) -> str:
    change = change_percent(value, reference)
    if change is None or abs(change) < 0.05:
        return f"as many {what}"
    return f"{abs(change):.1f} % {'fewer' if change < 0 else 'more'} {what}"
