from __future__ import annotations

import pytest
import torch
from torch import nn
from train_toy import ToyModel

from fewpairs.errors import InputError
from fewpairs.train import OptimizerConfig
from fewpairs.train.optimizer import build_optimizer, parameter_groups, set_rates


def by_name(model: nn.Module, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    return {
        name: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name in group["names"]
    }


def test_rates_fall_towards_the_input_and_the_head_has_its_own() -> None:
    rates = by_name(ToyModel(), OptimizerConfig(lr=1.0, weight_decay=0.1, layer_decay=0.5, head_lr=4.0))
    assert rates == {
        "embed.weight": (0.25, 0.0),
        "embed.bias": (0.25, 0.0),
        "norm.weight": (0.5, 0.0),
        "norm.bias": (0.5, 0.0),
        "head.weight": (4.0, 0.1),
        "head.bias": (4.0, 0.0),
    }


def test_a_model_without_methods_is_one_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    assert by_name(model, OptimizerConfig(lr=0.1, weight_decay=0.2)) == {
        "0.weight": (0.1, 0.2),
        "0.bias": (0.1, 0.0),
        "1.weight": (0.1, 0.0),
        "1.bias": (0.1, 0.0),
    }
    with pytest.raises(InputError, match=r"optimizer\.layer_decay is 0\.9, but Sequential has no layer_groups"):
        parameter_groups(model, OptimizerConfig(layer_decay=0.9))


def test_frozen_parameters_are_left_out() -> None:
    model = ToyModel()
    model.embed.requires_grad_(False)
    assert "embed.weight" not in by_name(model, OptimizerConfig())
    model.requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        parameter_groups(model, OptimizerConfig())


def test_layers_must_hold_every_parameter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyModel, "layer_groups", lambda self: [["embed.weight"]])
    with pytest.raises(InputError, match=r"leaves out 5 trainable parameters, such as embed\.bias"):
        parameter_groups(ToyModel(), OptimizerConfig())
    monkeypatch.setattr(ToyModel, "layer_groups", lambda self: [["embed.weight"], ["embed.weight"]])
    with pytest.raises(InputError, match="twice"):
        parameter_groups(ToyModel(), OptimizerConfig())


def test_sgd_moves_each_layer_by_its_own_rate() -> None:
    model = ToyModel()
    config = OptimizerConfig(name="sgd", lr=1.0, weight_decay=0.0, momentum=0.0, layer_decay=0.5)
    optimizer = build_optimizer(parameter_groups(model, config), config)
    set_rates(optimizer, 0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = {name: (before[name] - p.detach()).mean().item() for name, p in model.named_parameters()}
    assert moved["head.weight"] == pytest.approx(0.1)
    assert moved["embed.weight"] == pytest.approx(0.025)


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_a_scheduled_weight_decay_reaches_the_decayed_groups_alone(start: float) -> None:
    config = OptimizerConfig(weight_decay=start, weight_decay_end=0.4)
    optimizer = build_optimizer(parameter_groups(ToyModel(), config), config)

    def decays() -> dict[str, float]:
        return {name: group["weight_decay"] for group in optimizer.param_groups for name in group["names"]}

    before = decays()
    assert {name for name, value in before.items() if value == start} >= {"head.weight"}
    set_rates(optimizer, 0.1)
    assert decays() == before
    set_rates(optimizer, 0.1, 0.3)
    assert {name: value for name, value in decays().items() if value} == {"head.weight": 0.3}
