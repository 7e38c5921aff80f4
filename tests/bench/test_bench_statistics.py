"""Medians, ratios, intervals and what they allow to be said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.bench.statistics import FASTER, SLOWER, UNKNOWN, crossover, summarise

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30)


@given(times, st.floats(0.01, 100))
def test_spreads_and_ratios_are_in_order_and_scale(values: list[float], factor: float) -> None:
    spreads, ratios = summarise({"a": values, "b": [factor * value for value in values]}, ["a", "b"])
    one = spreads["a"]
    assert min(values) <= one.lower_quartile <= one.median <= one.upper_quartile <= max(values)
    assert ratios["b"]["a"].value == pytest.approx(factor)
    assert "a" not in ratios["a"]
    if one.low is None or one.high is None:
        assert len(values) < 5
        assert ratios["b"]["a"].verdict == UNKNOWN
    else:
        assert min(values) <= one.low <= one.high <= max(values)
        low, high = ratios["b"]["a"].low, ratios["b"]["a"].high
        assert low == pytest.approx(factor)
        assert high == pytest.approx(factor), "rounds are drawn whole: a proportional contender has no spread"


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=5, max_size=20))
def test_nobody_is_faster_where_intervals_overlap(rounds: list[tuple[float, float]]) -> None:
    spreads, ratios = summarise({"a": [a for a, _ in rounds], "b": [b for _, b in rounds]}, ["b"])
    one, base, said = spreads["a"], spreads["b"], ratios["a"]["b"]
    assert one.low is not None
    assert one.high is not None
    assert base.low is not None
    assert base.high is not None
    if said.verdict == FASTER:
        assert one.high < base.low
        assert said.high is not None
        assert said.high < 1
    elif said.verdict == SLOWER:
        assert one.low > base.high
    else:
        assert said.verdict == UNKNOWN


def test_a_clear_difference_is_said_and_equal_draws_are_not() -> None:
    draw = np.random.default_rng(0)
    slow, fast, same = (base + 0.05 * draw.random(25) for base in (2.0, 1.0, 1.0))
    _, ratios = summarise({"slow": list(slow), "fast": list(fast), "same": list(same)}, ["fast"])
    assert ratios["slow"]["fast"].verdict == SLOWER
    assert ratios["same"]["fast"].verdict == UNKNOWN
    _, ratios = summarise({"slow": list(slow), "fast": list(fast)}, ["slow"])
    assert ratios["fast"]["slow"].verdict == FASTER


def test_a_slow_spell_that_meets_all_alike_leaves_the_ratio_narrow_but_no_verdict() -> None:
    """Medians of both wander from 1 to 3; their ratio stays at 0.9, and intervals that overlap forbid "faster"."""
    spell = np.linspace(1, 3, 15)
    _, ratios = summarise({"a": list(0.9 * spell), "b": list(spell)}, ["b"])
    assert ratios["a"]["b"].high == pytest.approx(0.9)
    assert ratios["a"]["b"].verdict == UNKNOWN


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(1), 0
    for _ in range(100):
        _, ratios = summarise({"a": list(draw.lognormal(0, 0.1, 25)), "b": list(draw.lognormal(0, 0.1, 25))}, ["b"])
        low, high = ratios["a"]["b"].low, ratios["a"]["b"].high
        assert low is not None
        assert high is not None
        held += low <= 1 <= high
    assert held >= 88


def test_the_crossing_is_interpolated_on_logarithms() -> None:
    ours = {100: 2.0, 400: 2.0, 1600: 2.0}
    assert crossover(ours, {100: 1.0, 400: 4.0, 1600: 16.0}) == pytest.approx(200)
    assert crossover(ours, {100: 3.0, 400: 4.0, 1600: 16.0}) == 100
    assert crossover(ours, {100: 3.0, 400: 4.0, 1600: 1.0}) is None
    assert crossover(ours, {7: 1.0}) is None
