"""The history that a training run returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores after `step` steps."""

    step: int
    scores: dict[str, float | None]
    """Scores of the evaluated weights: the moving average if one is kept and evaluated."""
    raw_scores: dict[str, float | None] | None = None
    """Scores of the plain weights if `scores` are those of the moving average."""


@dataclass(slots=True)
class History:
    """Losses, evaluations and times of a run, including those before it was resumed."""

    monitor: str
    steps: int = 0
    """Optimiser steps done."""
    steps_per_epoch: int | None = None
    """None before the first line of the log."""
    losses: list[tuple[int, float | None]] = field(default_factory=list)
    """Step, and mean loss since the previous log line."""
    evaluations: list[Evaluation] = field(default_factory=list)
    best_step: int | None = None
    best_score: float | None = None
    stopped_early: bool = False
    seconds: float = 0.0
    """Wall-clock time of training, evaluation and writing."""
    training_seconds: float = 0.0
    """Wall-clock time of the training steps only."""
    waiting_seconds: float = 0.0
    """Part of `training_seconds` spent waiting for data."""
    peak_memory_bytes: int = 0
    """Peak memory of tensors on a CUDA device; on a CPU the peak resident size of the process."""

    @property
    def waiting_share(self) -> float:
        """Share of the training time spent waiting for data, in [0, 1]."""
        return self.waiting_seconds / self.training_seconds if self.training_seconds else 0.0

    @property
    def seconds_per_step(self) -> float:
        return self.training_seconds / self.steps if self.steps else 0.0

    def add(self, record: dict[str, Any]) -> None:
        """Add one line of the log."""
        if record.get("epoch"):
            self.steps_per_epoch = round(record["step"] / record["epoch"])
        if "loss" in record:
            self.losses.append((record["step"], record["loss"]))
        if "scores" in record:
            self.evaluations.append(Evaluation(record["step"], record["scores"], record.get("raw_scores")))
