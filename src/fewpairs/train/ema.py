"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Average of everything floating-point in a model's state dict (batch-norm statistics included).

    Entries of other types (counters) follow the model. The decay warms up as `min(decay, (1 + t) / (10 + t))` at
    update `t`, so that a short run's average is not its random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
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
        """Within the block the model holds the average; afterwards its own weights again, to the last bit."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._copy(self.state, model)
        try:
            yield
        finally:
            self._copy(own, model)

    @torch.no_grad()
    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Continue from a saved average."""
        for name, average in self.state.items():
            average.copy_(state[name])
        self.updates = updates

    @staticmethod
    @torch.no_grad()
    def _copy(state: dict[str, Tensor], model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            value.copy_(state[name])
