from __future__ import annotations

from typing import Any

import pytest

from fewpairs.errors import InputError
from fewpairs.train import FitConfig, OptimizerConfig, ScheduleConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("steps", True),
        ("batch_size", -1),
        ("accumulate", 0),
        ("repeats", 0),
        ("evaluate_every", 0),
        ("workers", -1),
        ("patience", 0),
        ("clip", 0.0),
        ("clip", float("nan")),
        ("ema", 1.0),
        ("ema", 0.0),
        ("monitor", ""),
    ],
)
def test_impossible_numbers_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"fit\.{field} is"):
        FitConfig(**{"steps": 10, "batch_size": 2, field: value})


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'bf16'"):
        FitConfig(steps=1, batch_size=1, precision="bf61")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"optimizer\.name is 'adam'; did you mean 'adamw'"):
        OptimizerConfig(name="adam")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"schedule\.name is 'cosin'; did you mean 'cosine'"):
        ScheduleConfig(name="cosin")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.0), ("momentum", 1.0), ("layer_decay", 1.1), ("head_lr", 0.0), ("weight_decay_end", -0.1)],
)
def test_optimizer_bounds(field: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"optimizer\.{field} is .*must be a number"):
        OptimizerConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_warm_up_begins_below_the_peak(value: float) -> None:
    with pytest.raises(InputError, match=r"schedule\.warmup_from is .*must be a number"):
        ScheduleConfig(warmup=2, warmup_from=value)
    with pytest.raises(InputError, match=r"schedule\.warmup_from is 0\.5, but schedule\.warmup is 0 steps"):
        ScheduleConfig(warmup_from=0.5)


def test_an_average_that_is_not_kept_cannot_be_left_unscored() -> None:
    with pytest.raises(InputError, match=r"fit\.score_ema is false, but fit\.ema keeps no moving average"):
        FitConfig(steps=1, batch_size=1, score_ema=False)
    assert not FitConfig(steps=1, batch_size=1, ema=0.9, score_ema=False).score_ema
