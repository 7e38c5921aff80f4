from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.train import OptimizerConfig, ScheduleConfig
from fewpairs.train.schedule import check_schedule, rate_factor, weight_decay_at


def test_by_hand() -> None:
    cosine = ScheduleConfig(name="cosine", warmup=4, floor=0.1)
    assert [rate_factor(cosine, step, 12) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate_factor(cosine, 4, 12) == 1.0
    assert rate_factor(cosine, 8, 12) == pytest.approx(0.1 + 0.9 * 0.5)
    assert rate_factor(cosine, 12, 12) == pytest.approx(0.1)
    poly = ScheduleConfig(name="poly", power=0.9)
    assert rate_factor(poly, 5, 10) == pytest.approx(0.5**0.9)
    assert {rate_factor(ScheduleConfig(name="constant"), step, 10) for step in range(10)} == {1.0}
    late = ScheduleConfig(warmup=4, warmup_from=0.2)
    assert [rate_factor(late, step, 12) for step in range(4)] == pytest.approx([0.4, 0.6, 0.8, 1.0])


@given(
    st.sampled_from(["cosine", "poly", "constant"]),
    st.integers(0, 20),
    st.integers(21, 100),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_up_then_down_within_bounds(name: str, warmup: int, steps: int, floor: float, begin: float) -> None:
    begin = begin if warmup else 0.0
    config = ScheduleConfig(name=name, warmup=warmup, warmup_from=begin, floor=floor)  # type: ignore[arg-type]
    factors = [rate_factor(config, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 + 1e-12 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert all(factor >= begin - 1e-12 for factor in factors[:warmup])
    falling = factors[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))
    assert all(factor >= floor - 1e-12 for factor in falling)
    assert math.isclose(falling[0], 1.0)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 100))
def test_the_weight_decay_goes_from_one_value_to_the_other(start: float, end: float, steps: int) -> None:
    config = OptimizerConfig(weight_decay=start, weight_decay_end=end)
    decays = [weight_decay_at(config, step, steps) for step in range(steps + 1)]
    assert decays[0] == pytest.approx(start)
    assert decays[-1] == pytest.approx(end)
    assert decays == sorted(decays, reverse=start > end)
    middle = weight_decay_at(config, 50, 100)
    assert middle == pytest.approx((start + end) / 2)
    assert weight_decay_at(OptimizerConfig(weight_decay=start), steps, steps) == start


def test_warm_up_must_end() -> None:
    with pytest.raises(InputError, match=r"schedule\.warmup is 10 steps, but training lasts only 10"):
        check_schedule(ScheduleConfig(warmup=10), 10)


@given(st.sets(st.integers(6, 99), min_size=1, max_size=5), st.floats(0.05, 0.95), st.floats(0, 1))
def test_the_step_schedule_drops_once_at_each_milestone(at: set[int], drop: float, floor: float) -> None:
    config = ScheduleConfig(name="step", warmup=5, milestones=tuple(sorted(at)), drop=drop, floor=floor)
    check_schedule(config, 100)
    factors = [rate_factor(config, step, 100) for step in range(5, 100)]
    assert factors[0] == 1.0
    assert [step for step, (a, b) in enumerate(pairwise(factors), start=6) if b < a] == sorted(at) or floor > 0
    assert factors[-1] == pytest.approx(max(floor, drop ** len(at)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "step"}, "needs milestones"),
        ({"milestones": (5,)}, "no other schedule takes any"),
        ({"name": "step", "milestones": (8, 4)}, "must increase"),
        ({"name": "step", "milestones": (4, 4)}, "must increase"),
        ({"name": "step", "milestones": (4,), "warmup": 4}, "after the warm-up of 4"),
        ({"name": "step", "milestones": (4,), "drop": 1.0}, "schedule.drop is 1.0"),
    ],
)
def test_milestones_that_make_no_sense_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ScheduleConfig(**settings)  # type: ignore[arg-type]


def test_milestones_lie_within_the_training() -> None:
    with pytest.raises(InputError, match=r"schedule\.milestones are 4, 10, but training lasts only 10"):
        check_schedule(ScheduleConfig(name="step", milestones=(4, 10)), 10)
