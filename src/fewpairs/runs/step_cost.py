"""Time and memory of a training step on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from fewpairs.cost.memory import LiveBytes
from fewpairs.train import OptimizerConfig
from fewpairs.train.optimizer import build_optimizer, parameter_groups
from fewpairs.train.protocols import Batch, Task


def training_step(model: nn.Module, task: Task, batch: Batch, device: torch.device) -> Callable[[], None]:
    """Return a function that takes one float32 training step (forward, loss, backward, AdamW) on one batch."""
    model, batch, config = model.to(device).train(), batch.to(device), OptimizerConfig()
    optimizer = build_optimizer(parameter_groups(model, config), config)
    after_step: Callable[[], None] | None = getattr(model, "after_step", None)

    def step() -> None:
        optimizer.zero_grad()
        outputs = model(batch.image, auxiliary=True) if task.auxiliary else model(batch.image)
        torch.stack(list(task.loss(outputs, batch).values())).sum().backward()
        optimizer.step()
        if after_step is not None:
            after_step()

    return step


def time_steps(steps: Mapping[str, Callable[[], None]], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return seconds of each step in each round; a round runs all steps once, so that drift affects them equally."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            _settle(device)
            start = time.perf_counter()
            step()
            _settle(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """Return the peak of bytes in tensors that one step allocates.

    Activations, gradients and temporary results count; weights and optimiser state do not, nor, on a CPU, workspaces
    inside operations. The step runs twice, because the optimiser allocates its state in the first run.
    """
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with LiveBytes() as live:
        step()
    return live.peak


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
