"""Learning-rate schedules as pure functions of the step: there is no state to save."""

from __future__ import annotations

import math

from latchkey.errors import InputError
from latchkey.train.config import ScheduleConfig


def check_schedule(config: ScheduleConfig, steps: int) -> None:
    """Raise InputError when the warm-up leaves no step of `steps` for the schedule itself."""
    if config.warmup >= steps:
        raise InputError(
            f"schedule.warmup is {config.warmup} steps, but training lasts only {steps}; make it shorter than fit.steps"
        )


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak learning rate that step `step` (from 0) of `steps` uses, in (0, 1].

    Warm-up takes `(step + 1) / warmup`, so that the first step already learns; cosine follows SGDR (arXiv 1608.03983,
    equation 5, without restarts), poly the usual `(1 - progress) ** power` of semantic segmentation.
    """
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.name == "constant":
        return 1.0
    progress = min(1.0, (step - config.warmup) / max(1, steps - config.warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if config.name == "cosine" else (1 - progress) ** config.power
    return config.floor + (1 - config.floor) * shape
