"""What a training step costs on this machine: time in interleaved rounds, memory tensor by tensor."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latchkey.train.config import OptimizerConfig
from latchkey.train.optimizer import build_optimizer, parameter_groups
from latchkey.train.protocols import Task
from latchkey.types import Batch


def training_step(model: nn.Module, task: Task, batch: Batch, device: torch.device) -> Callable[[], None]:
    """A function that does one whole float32 training step (forward, loss, backward, AdamW) on one batch."""
    model, batch, config = model.to(device).train(), batch.to(device), OptimizerConfig()
    optimizer = build_optimizer(parameter_groups(model, config), config)

    def step() -> None:
        optimizer.zero_grad()
        outputs = model(batch.image, auxiliary=True) if task.auxiliary else model(batch.image)
        torch.stack(list(task.loss(outputs, batch).values())).sum().backward()
        optimizer.step()

    return step


def time_steps(
    steps: Mapping[str, Callable[[], None]], *, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each step in each of `rounds`; every round runs all steps once, so that drift meets them alike."""
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
    """Most bytes that one step holds at a time in tensors that were not there before it.

    So activations, gradients and temporary results count, weights and optimiser state do not. The step runs twice, the
    first time to let the optimiser make its state.
    """
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with TensorMemory() as memory:
        step()
    return memory.peak


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while it is active, from their making to their release.

    It sees what an operation returns, not the scratch memory that an operation uses inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            self._note(tensor, new=False)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            self._note(tensor, new=True)
        return out

    def _note(self, tensor: Any, *, new: bool) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes() if new else 0
        self.held += self._sizes[key]
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.held -= self._sizes.pop(key)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
