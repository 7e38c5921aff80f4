"""Goals against records, the page and the figure that tell of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewpairs.bench.goals import goal_records, verdict
from fewpairs.bench.plot import draw, panels
from fewpairs.bench.sets import Goal

NAME = "knn-b1-h1-n64-d8-k8"


def record(
    n: int = 64, role: str = "kernel", ratio: tuple[float, float, float] | None = None, peak: int | None = None
) -> dict[str, Any]:
    ratios = {"sdpa": dict(zip(("value", "low", "high"), ratio, strict=True))} if ratio else {}
    return {
        "case": NAME.replace("64", str(n)),
        "op": "knn",
        "pass": "forward",
        "role": role,
        "contender": "native" if role == "kernel" else "sdpa",
        "shape": {"b": 1, "h": 1, "n": n, "d": 8, "k": n // 8},
        "ratios": ratios,
        "peak_bytes": peak,
    }


@pytest.mark.parametrize(
    ("quantity", "bound", "ratio", "reached", "said"),
    [
        ("time", 0.75, (0.7, 0.68, 0.72), 0.7, "met"),
        ("time", 0.75, (0.8, 0.78, 0.82), 0.8, "not met"),
        ("time", 0.75, (0.74, 0.6, 0.9), 0.74, "met, but the interval includes the bound"),
        ("speed", 4.0, (0.2, 0.19, 0.21), 5.0, "met"),
        ("speed", 6.0, (0.2, 0.19, 0.21), 5.0, "not met"),
        ("speed", 5.1, (0.2, 0.19, 0.21), 5.0, "not met, but the interval includes the bound"),
    ],
)
def test_a_ratio_is_held_against_its_bound(
    quantity: Any, bound: float, ratio: tuple[float, float, float], reached: float, said: str
) -> None:
    (found,) = goal_records(
        [Goal(NAME, "forward", quantity, bound, "sdpa")], [record(ratio=ratio), record(role="baseline")]
    )
    assert found["reached"] == pytest.approx(reached)
    assert found["low"] < found["reached"] < found["high"]
    assert verdict(found) == said


def test_a_goal_with_too_few_rounds_says_so() -> None:
    bare = record(ratio=(0.5, 0.4, 0.6))
    bare["ratios"]["sdpa"] |= {"low": None, "high": None}
    (found,) = goal_records([Goal(NAME, "forward", "time", 0.75, "sdpa")], [bare])
    assert verdict(found) == "met, with too few rounds for an interval"


def test_memory_and_its_growth_are_held_against_theirs() -> None:
    last = NAME.replace("64", "256")
    goals = [
        Goal(NAME, "forward", "memory", 2.0**20),
        Goal(NAME, "forward", "growth", 1.1, until=last),
        Goal(last, "forward", "memory", 2.0**20),
    ]
    found = list(goal_records(goals, [record(peak=2**20), record(256, peak=2**22)]))
    assert [verdict(each) for each in found] == ["met", "met", "not met"]
    assert found[1]["reached"] == pytest.approx(1)
    square = list(goal_records(goals[1:2], [record(peak=2**20), record(256, peak=2**24)]))
    assert verdict(square[0]) == "not met"


def test_what_was_not_measured_is_neither_met_nor_not() -> None:
    goal = Goal(NAME, "forward", "time", 1.0, "published")
    for measured in ([], [record(ratio=(0.5, 0.4, 0.6))], [record(role="baseline")]):
        assert [verdict(each) for each in goal_records([goal], measured)] == ["not measured"]


def test_panels_are_for_what_was_measured_at_several_lengths(tmp_path: Path) -> None:
    def timed(n: int, name: str, seconds: float) -> dict[str, Any]:
        return {**record(n, peak=n * 2**16), "contender": name, "seconds": {"median": seconds}}

    rows = [timed(n, name, t * n / 64) for n in (64, 128, 256) for name, t in (("native", 1.0), ("sdpa", 2.0))]
    assert list(panels(rows)) == ["k-NN, k = n/8, forward"]
    assert panels(rows[:2]) == {}
    assert not draw(rows[:2], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
    assert draw(rows, tmp_path / "figure.svg", tmp_path / "figure.png")
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "native (below sdpa from n = 64 on)" in text
    assert "mathdefault" not in text
