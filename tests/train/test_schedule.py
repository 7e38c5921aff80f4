from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchkey.errors import InputError
from latchkey.train import ScheduleConfig
from latchkey.train.schedule import check_schedule, rate_factor


def test_by_hand() -> None:
    cosine = ScheduleConfig(name="cosine", warmup=4, floor=0.1)
    assert [rate_factor(cosine, step, 12) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate_factor(cosine, 4, 12) == 1.0
    assert rate_factor(cosine, 8, 12) == pytest.approx(0.1 + 0.9 * 0.5)
    assert rate_factor(cosine, 12, 12) == pytest.approx(0.1)
    poly = ScheduleConfig(name="poly", power=0.9)
    assert rate_factor(poly, 5, 10) == pytest.approx(0.5**0.9)
    assert {rate_factor(ScheduleConfig(name="constant"), step, 10) for step in range(10)} == {1.0}


@given(
    st.sampled_from(["cosine", "poly", "constant"]),
    st.integers(0, 20),
    st.integers(21, 100),
    st.floats(0, 1),
    st.data(),
)
def test_up_then_down_within_bounds(name: str, warmup: int, steps: int, floor: float, data: st.DataObject) -> None:
    config = ScheduleConfig(name=name, warmup=warmup, floor=floor)  # type: ignore[arg-type]
    factors = [rate_factor(config, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 + 1e-12 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    falling = factors[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))
    assert all(factor >= floor - 1e-12 for factor in falling)
    assert math.isclose(falling[0], 1.0)


def test_warm_up_must_end() -> None:
    with pytest.raises(InputError, match=r"schedule\.warmup is 10 steps, but training lasts only 10"):
        check_schedule(ScheduleConfig(warmup=10), 10)
