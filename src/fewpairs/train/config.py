"""Settings of a training run: plain frozen data, checked on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fewpairs.errors import InputError, nearest

Precision = Literal["fp32", "bf16", "fp16"]
OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["cosine", "poly", "constant", "step"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Length of the training, batch size, and intervals of evaluation, checkpoints and log.

    One step uses `batch_size * accumulate * processes` images, the global batch.
    """

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Images in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes whose gradients are averaged into one step."""
    precision: Precision = "fp32"
    clip: float | None = 1.0
    """Largest norm of the whole gradient; None leaves it as it is."""
    ema: float | None = None
    """Decay of the exponential moving average of the weights; None keeps no average."""
    score_ema: bool = True
    """Whether evaluation uses the moving average (if `ema` is set) or the weights themselves."""
    repeats: int = 1
    """Augmented copies of each drawn image in an epoch (repeated augmentation, arXiv 1901.09335)."""
    evaluate_every: int = 200
    """Steps between evaluations; the last step is always evaluated."""
    checkpoint_every: int = 200
    """Steps between writes of `last.safetensors`; the last step is always written."""
    log_every: int = 10
    patience: int | None = None
    """Training stops after this many evaluations in a row without a better score; None never stops early."""
    monitor: str = "dice"
    """Name of the score that decides which weights are best."""
    maximise: bool = True
    """Whether a higher monitored score is better."""
    workers: int = 0
    """Processes that load data; 0 loads in the training process."""
    seed: int = 0
    device: Device = "auto"
    """`auto` takes a CUDA device if there is one."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "repeats", "evaluate_every", "checkpoint_every", "log_every"):
            _at_least(self, name, 1)
        _at_least(self, "workers", 0)
        _at_least(self, "seed", 0)
        if self.patience is not None:
            _at_least(self, "patience", 1)
        _one_of(self, "precision", get_args(Precision))
        _one_of(self, "device", get_args(Device))
        if self.clip is not None:
            _between(self, "clip", above=0.0)
        if self.ema is not None:
            _between(self, "ema", above=0.0, below=1.0)
        elif not self.score_ema:
            raise InputError(
                "fit.score_ema is false, but fit.ema keeps no moving average; set fit.ema to a "
                "decay such as 0.999, or leave fit.score_ema true"
            )
        if not self.monitor:
            raise InputError(
                "fit.monitor is empty; name the score that decides which weights are best, such as 'dice' or 'top1'"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW (betas 0.9 and 0.999) or SGD, with layer-wise learning rates.

    Biases, normalisation weights and the parameters that `model.no_weight_decay()` names are not decayed.
    """

    name: OptimizerName = "adamw"
    lr: float = 1e-3
    """Peak learning rate; `ScheduleConfig` scales it by step."""
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    """Weight decay at the end, reached along half a cosine (as in DINO, arXiv 2104.14294); None keeps it constant."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW does not use it."""
    layer_decay: float = 1.0
    """Factor between the learning rate of a layer group and that of the next one towards the output; 1 is none."""
    head_lr: float = 1.0
    """Factor for the learning rate of the last layer group (decoder and head)."""

    def __post_init__(self) -> None:
        _one_of(self, "name", get_args(OptimizerName))
        _between(self, "lr", above=0.0)
        _between(self, "weight_decay", least=0.0)
        if self.weight_decay_end is not None:
            _between(self, "weight_decay_end", least=0.0)
        _between(self, "momentum", least=0.0, below=1.0)
        _between(self, "layer_decay", above=0.0, most=1.0)
        _between(self, "head_lr", above=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Learning rate: it rises linearly to its peak for `warmup` steps, then falls to `floor` times the peak."""

    name: ScheduleName = "cosine"
    warmup: int = 0
    """Steps of the warm-up."""
    warmup_from: float = 0.0
    """Fraction of the peak rate at which the warm-up begins."""
    power: float = 0.9
    """Exponent of the poly schedule, `(1 - progress) ** power`."""
    floor: float = 0.0
    """Fraction of the peak rate that the schedule ends at."""
    milestones: tuple[int, ...] = ()
    """Steps at which the step schedule multiplies the rate by `drop`."""
    drop: float = 0.1

    def __post_init__(self) -> None:
        _one_of(self, "name", get_args(ScheduleName))
        _at_least(self, "warmup", 0)
        _between(self, "warmup_from", least=0.0, below=1.0)
        if self.warmup_from and not self.warmup:
            raise InputError(
                f"schedule.warmup_from is {self.warmup_from:g}, but schedule.warmup is 0 steps; set it, or leave "
                "schedule.warmup_from at 0"
            )
        _between(self, "power", above=0.0)
        _between(self, "floor", least=0.0, most=1.0)
        _between(self, "drop", above=0.0, below=1.0)
        if (self.name == "step") != bool(self.milestones):
            raise InputError(
                f"schedule.name is {self.name!r} and schedule.milestones are {list(self.milestones)}; the step "
                "schedule needs milestones such as [8000, 11000], and no other schedule takes any"
            )
        if list(self.milestones) != sorted(set(self.milestones)) or any(at <= self.warmup for at in self.milestones):
            raise InputError(
                f"schedule.milestones are {list(self.milestones)}; they must increase, and come after the warm-up of "
                f"{self.warmup} steps"
            )


_PREFIX = {"FitConfig": "fit", "OptimizerConfig": "optimizer", "ScheduleConfig": "schedule"}


def _field(config: object, name: str) -> str:
    return f"{_PREFIX[type(config).__name__]}.{name}"


def _one_of(config: object, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in allowed:
        raise InputError(f"{_field(config, name)} is {value!r}; {nearest(str(value), allowed)}")


def _at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{_field(config, name)} is {value!r}; it must be a whole number of at least {least}")


def _between(
    config: object,
    name: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    value = getattr(config, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if number and above < value < below and least <= value <= most:
        return
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("at least", least), ("below", below), ("at most", most))
        if math.isfinite(bound)
    ]
    raise InputError(f"{_field(config, name)} is {value!r}; it must be a number {' and '.join(bounds)}")
