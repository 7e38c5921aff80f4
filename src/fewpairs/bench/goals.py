"""Compares goals with measurements, and says whether confidence intervals support the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from fewpairs.bench.sets import Goal

Record = dict[str, Any]


def goal_records(goals: Iterable[Goal], measured: list[Record]) -> Iterator[Record]:
    """Yield a record for each goal; `reached` is None if its measurements are missing."""
    for goal in goals:
        ours = _ours(goal.case, goal, measured)
        reached = None if ours is None else _reached(goal, ours, measured)
        low, high = reached[1:] if reached else (None, None)
        value = reached[0] if reached else None
        met = None if value is None else _meets(goal, value)
        certain = met is not None and None not in (low, high) and _meets(goal, low) == _meets(goal, high) == met
        yield {
            "kind": "goal",
            "case": goal.case,
            "op": goal.op,
            "pass": goal.pass_,
            "contender": ours["contender"] if ours else None,
            "quantity": goal.quantity,
            "goal": goal.text,
            "bound": goal.bound,
            "against": goal.against,
            "reached": value,
            "low": low,
            "high": high,
            "met": met,
            "certain": certain if goal.quantity in ("time", "speed") else met is not None,
        }


def verdict(record: Record) -> str:
    """Return `met`, `not met` or `not measured`, with a warning if no interval supports it."""
    if record["met"] is None:
        return "not measured"
    said = "met" if record["met"] else "not met"
    if record["quantity"] in ("time", "speed") and record["low"] is None:
        return f"{said}, with too few rounds for an interval"
    return said if record["certain"] else f"{said}, but the interval includes the bound"


def _ours(case: str, goal: Goal, measured: list[Record]) -> Record | None:
    """Return the record of the first kernel for this case and pass; kernels are in order of preference."""
    mine = (r for r in measured if (r["case"], r["pass"], r["role"]) == (case, goal.pass_, "kernel"))
    return next(mine, None)


def _reached(goal: Goal, ours: Record, measured: list[Record]) -> tuple[float, float | None, float | None] | None:
    if goal.quantity == "memory":
        peak = ours.get("peak_bytes")
        return None if peak is None else (float(peak), None, None)
    if goal.quantity == "growth":
        last = _ours(str(goal.until), goal, measured)
        first_peak, last_peak = ours.get("peak_bytes"), last and last.get("peak_bytes")
        if last is None or not first_peak or not last_peak:
            return None
        exponent = math.log(last_peak / first_peak) / math.log(last["shape"]["n"] / ours["shape"]["n"])
        return exponent, None, None
    ratio = ours.get("ratios", {}).get(goal.against)
    if ratio is None:
        return None
    if goal.quantity == "time":
        return ratio["value"], ratio["low"], ratio["high"]
    low, high = (None if end is None else 1 / end for end in (ratio["high"], ratio["low"]))
    return 1 / ratio["value"], low, high


def _meets(goal: Goal, value: float | None) -> bool:
    if value is None:
        return False
    return value >= goal.bound if goal.quantity == "speed" else value <= goal.bound
