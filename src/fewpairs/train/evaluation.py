"""Evaluation during training: scores, the best weights, and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewpairs.errors import InputError, nearest
from fewpairs.train.config import FitConfig
from fewpairs.train.ema import Ema
from fewpairs.train.protocols import Items, Metric
from fewpairs.train.state import Position


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Score a model on `items` when an evaluation is due; without items none is."""

    score: Callable[[nn.Module, Items], Metric]
    items: Items | None
    config: FitConfig

    def due(self, step: int) -> bool:
        """Return whether the weights after `step` steps are evaluated."""
        return self.items is not None and (step == self.config.steps or step % self.config.evaluate_every == 0)

    def check_monitor(self, model: nn.Module) -> None:
        """Score one item before training, so that mistakes in the evaluation show at once.

        Raises:
            InputError: there are no items, or no score is called `config.monitor` (the message lists the scores).
        """
        if self.items is None:
            return
        if len(self.items) == 0:
            raise InputError("there is nothing to evaluate on; check the validation split, or train without evaluation")
        scores = self.score(model, _First(self.items)).compute()
        if self.config.monitor not in scores:
            raise InputError(
                f"fit.monitor is {self.config.monitor!r}, but no score has that name; "
                f"{nearest(self.config.monitor, scores)}"
            )

    def scores(self, model: nn.Module, ema: Ema | None) -> dict[str, Any]:
        """Return log entries: `scores`, and `raw_scores` of the plain weights if `scores` are of the moving average."""
        if self.items is None:
            return {}
        started = time.perf_counter()
        record: dict[str, Any] = {}
        plain = self.score(model, self.items).compute()
        if ema is None or not self.config.score_ema:
            record["scores"] = plain
        else:
            with ema.applied(model):
                record |= {"scores": self.score(model, self.items).compute(), "raw_scores": plain}
        return record | {"evaluation_seconds": time.perf_counter() - started}


@dataclass(frozen=True, slots=True)
class _First:
    """Only the first item, in every process."""

    items: Items

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.items[0]


def to_float32(outputs: Any) -> Any:
    """Convert a tensor of outputs to float32; other outputs, such as detections, are in float32 already."""
    return outputs.float() if isinstance(outputs, Tensor) else outputs


def join_outputs(parts: Iterable[Any]) -> Any:
    """Join the predictions for the parts of an item on the CPU: one tensor, or one list with an entry per image."""
    found = list(parts)
    if all(isinstance(part, Tensor) for part in found):
        return torch.cat([part.cpu() for part in found])
    return [one.to("cpu") for part in found for one in part]


def update_best(position: Position, score: float, config: FitConfig) -> bool:
    """Note the monitored score of step `position.step` in `position`; return True if it is the best so far.

    A score that is not finite is never better than a finite one.
    """
    best, number = position.best_score, math.isfinite(score)
    better = position.best_step is None or (
        number and (best is None or (score > best if config.maximise else score < best))
    )
    if better:
        position.best_step, position.best_score = position.step, score if number else None
    position.misses = 0 if better else position.misses + 1
    return better


def out_of_patience(position: Position, config: FitConfig) -> bool:
    """Return whether `patience` evaluations have passed without a better score."""
    return config.patience is not None and position.misses >= config.patience
