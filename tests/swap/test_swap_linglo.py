"""Swaps in LinGlo: key-only attention out and in, reduced keys refused."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from fewpairs import KNN, KV, KeyOnly, MultiHead, Softmax, swap_attention
from fewpairs.attention import Core, ReducedProjection
from fewpairs.cost.breakdown import trace_model
from fewpairs.errors import InputError
from fewpairs.models.encoders import LinGlo, LinGloLayout, LinGloStage, arrange
from fewpairs.types import Grid

TINY = LinGloLayout((LinGloStage(8, 1, "CA", 7, 4), LinGloStage(16, 2, "CACA")), mlp_ratio=2)


def made(attention: object, **options: object) -> nn.Module:
    return LinGlo(arrange(TINY, **options), attention, num_classes=4).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [KeyOnly(), KeyOnly("R3"), KV()], ids=str)
def test_softmax_goes_out(variant: object) -> None:
    model = made(Softmax())
    rows = model.get_parameter("stages.1.blocks.1.attn.project.linear.weight")[16:].clone()
    receipt = swap_attention(model, variant)
    assert [layer.stage for layer in receipt.swapped] == [0, 1, 1]
    assert not receipt.left
    assert torch.equal(model.get_parameter("stages.1.blocks.1.attn.project.linear.weight"), rows)
    assert model(torch.randn(2, 3, 20, 28)).shape == (2, 4)


def test_the_receipt_of_a_model_of_timms() -> None:
    model = timm.create_model("linglo_pico", attention="softmax")
    receipt = swap_attention(model, KeyOnly(), dry_run=True)
    assert receipt.input_size == (28, 28)
    assert receipt.macs_after == trace_model(timm.create_model("linglo_pico"), (28, 28)).macs.total()
    assert (receipt.parameters_after, len(receipt.new_keys)) == (158_428, 3)


def test_one_a_stage() -> None:
    model = made(Softmax())
    swap_attention(model, [KeyOnly("R2"), KNN(3)])
    assert [core.variant for core in model.modules() if isinstance(core, Core)] == [KeyOnly("R2"), KNN(3), KNN(3)]


def test_every_key_kept_is_the_same_model() -> None:
    model, image = made(Softmax(), reduction=[2, 1]), torch.randn(1, 3, 33, 28)
    with torch.no_grad():
        before = model(image)
        swap_attention(model, KNN(1.0))
        torch.testing.assert_close(model(image), before, atol=1e-5, rtol=1e-4)


def test_reduced_keys_are_left_with_a_reason() -> None:
    model = made(Softmax(), reduction=[2, 1])
    receipt = swap_attention(model, KeyOnly())
    assert [left.name for left in receipt.left] == ["stages.0.blocks.1.attn"]
    assert "2 x 2 queries" in receipt.left[0].reason
    with pytest.raises(InputError, match="2 x 2 queries"):
        swap_attention(made(Softmax(), reduction=[2, 1]), KV(), where="stages.0*")


def test_a_reduction_of_one_may_lose_its_queries() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = MultiHead(8, 2, Softmax(), project=ReducedProjection.with_(ratio=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attn(x, Grid(3, 4))

    model = Layer()
    swap_attention(model, KV())
    assert model(torch.randn(1, 12, 8)).shape == (1, 12, 8)
    assert not [name for name, _ in model.named_parameters() if "query" in name]
