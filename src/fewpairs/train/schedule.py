"""Schedules of learning rate and weight decay as pure functions of the step: there is no state to save."""

from __future__ import annotations

import math

from fewpairs.errors import InputError
from fewpairs.train.config import OptimizerConfig, ScheduleConfig


def check_schedule(config: ScheduleConfig, steps: int) -> None:
    """Raise InputError if the warm-up takes all `steps`, or if a milestone is not below `steps`."""
    if config.warmup >= steps:
        raise InputError(
            f"schedule.warmup is {config.warmup} steps, but training lasts only {steps}; make it shorter than fit.steps"
        )
    if config.milestones and config.milestones[-1] >= steps:
        raise InputError(
            f"schedule.milestones are {', '.join(map(str, config.milestones))}, but training lasts only {steps} steps; "
            "give milestones below fit.steps"
        )


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Return the fraction of the peak learning rate at step `step` (from 0) of `steps`, in (0, 1].

    Warm-up goes from `warmup_from` to 1 by `(step + 1) / warmup`, so that the rate of the first step is not 0. Cosine
    follows SGDR (arXiv 1608.03983, equation 5, without restarts), poly is the `(1 - progress) ** power` of semantic
    segmentation, and step multiplies the rate by `drop` at each milestone, as detectors do.
    """
    if step < config.warmup:
        return config.warmup_from + (1 - config.warmup_from) * (step + 1) / config.warmup
    if config.name == "constant":
        return 1.0
    if config.name == "step":
        return max(config.floor, config.drop ** sum(step >= milestone for milestone in config.milestones))
    progress = min(1.0, (step - config.warmup) / max(1, steps - config.warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if config.name == "cosine" else (1 - progress) ** config.power
    return config.floor + (1 - config.floor) * shape


def weight_decay_at(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the weight decay at step `step` (from 0) of `steps`: half a cosine between its two values.

    It has no warm-up, as in DINO (arXiv 2104.14294, appendix on the implementation).
    """
    if config.weight_decay_end is None:
        return config.weight_decay
    start, end = config.weight_decay, config.weight_decay_end
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
