"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Average of all floating-point entries of a model's state dict, batch-norm statistics included.

    Other entries (counters) are copied. The decay warms up as `min(decay, (1 + t) / (10 + t))` at
    update `t`, so that the average of a short run is not dominated by its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's current weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.state[name])
                values.append(value.detach())
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within the block the model holds the average; afterwards its own weights are restored bit by bit."""
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._copy(self.state, model)
        try:
            yield
        finally:
            self._copy(weights, model)

    @torch.no_grad()
    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore a saved average."""
        for name, average in self.state.items():
            average.copy_(state[name])
        self.updates = updates

    @staticmethod
    @torch.no_grad()
    def _copy(state: dict[str, Tensor], model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            value.copy_(state[name])
