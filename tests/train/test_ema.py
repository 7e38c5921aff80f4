from __future__ import annotations

import pytest
import torch
from torch import nn
from train_toy import ToyModel, same_bits

from fewpairs.train.ema import Ema


def test_average_by_hand_with_warm_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema, expected = Ema(model, 0.25), 0.0
    for update, value in enumerate([1.0, 3.0, -2.0], start=1):
        nn.init.constant_(model.weight, value)
        ema.update(model)
        decay = min(0.25, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert ema.state["weight"].item() == pytest.approx(expected)


def test_counters_follow_and_statistics_are_averaged() -> None:
    model = ToyModel(batch_norm=True)
    ema = Ema(model, 0.5)
    model.train()(torch.randn(4, 1, 8, 8))
    ema.update(model)
    assert ema.state["norm.num_batches_tracked"].item() == 1
    own, average = model.norm.running_var, ema.state["norm.running_var"]
    assert not torch.equal(average, own)
    assert not torch.equal(average, torch.ones_like(own))


def test_applied_swaps_and_gives_back_every_bit_even_after_an_error() -> None:
    model = ToyModel(batch_norm=True)
    ema = Ema(model, 0.5)
    for p in model.parameters():
        nn.init.normal_(p)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = {name: value.clone() for name, value in ema.state.items()}

    def fail_inside() -> None:
        with ema.applied(model):
            assert same_bits(dict(model.state_dict()), average)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert same_bits(dict(model.state_dict()), before)
    assert same_bits(ema.state, average)
