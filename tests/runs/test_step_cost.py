from __future__ import annotations

import torch
from torch import nn

from fewpairs.runs.step_cost import peak_bytes, time_steps


def test_peak_of_a_step_holds_activations_and_gradients() -> None:
    layer, x = nn.Linear(256, 1024), torch.randn(512, 256)
    parameters = sum(p.numel() for p in layer.parameters()) * 4

    def step() -> None:
        layer.zero_grad()
        layer(x).relu().sum().backward()

    activation = 512 * 1024 * 4
    assert 2 * activation <= peak_bytes(step, torch.device("cpu")) <= 4 * activation + 2 * parameters


def test_rounds_run_all_steps_in_turn() -> None:
    order: list[str] = []
    seconds = time_steps(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, device=torch.device("cpu")
    )
    assert order == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
