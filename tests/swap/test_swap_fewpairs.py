"""Swaps in models that fewpairs built itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewpairs import KNN, KV, KVPos, MultiHead, Softmax, swap_attention
from fewpairs.attention import ConvProjection
from fewpairs.errors import InputError
from fewpairs.models import create_segmenter
from fewpairs.models.encoders import CvT, CvTStage
from fewpairs.swap import describe
from fewpairs.types import Grid

pytestmark = pytest.mark.usefixtures("uncounted")

TINY = (CvTStage(8, 1, 1, 7, 4, 2), CvTStage(16, 2, 1), CvTStage(24, 3, 2))


def cvt(attention: Any = Softmax("width"), stride: int = 2) -> tuple[nn.Module, Tensor]:
    model = CvT(TINY, attention, stride_kv=stride, num_classes=4)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "cls" not in name:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval(), torch.randn(2, 3, 48, 64)


@pytest.mark.parametrize("stride", [1, 2])
def test_cvt_keeps_its_scale_its_keys_and_its_answer(stride: int) -> None:
    model, image = cvt(stride=stride)
    replaced = copy.deepcopy(model)
    receipt = swap_attention(replaced, KNN(10_000))
    assert [layer.stage for layer in receipt.swapped] == [0, 1, 2, 2]
    assert {layer.variant.scale_by for layer in receipt.swapped if layer.heads > 1} == {"width"}
    with torch.no_grad():
        assert torch.allclose(replaced(image), model(image), atol=1e-5)
        swap_attention(model, [KNN(1), KNN(0.5), KNN(1)])
        assert not torch.allclose(replaced(image), model(image), atol=1e-3)


def test_segmenters_are_swapped_too() -> None:
    model = create_segmenter("setr_pup_small", attention=Softmax(), classes=2, in_channels=1).eval()
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, KNN(1.0))
        assert torch.allclose(model(image), wanted, atol=1e-5)
    assert len(receipt.swapped) == 6
    assert not receipt.left


def tie(model: nn.Module) -> None:
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, MultiHead):
                parts = layer.project
                if isinstance(parts, ConvProjection):
                    for part in (parts.conv, parts.norm, parts.linear):
                        part["q"].load_state_dict(part["k"].state_dict())
                else:
                    for parameter in parts.linear.parameters():
                        parameter[: layer.dim] = parameter[layer.dim : 2 * layer.dim]


@pytest.mark.parametrize("variant", [KV(), KVPos()], ids=["kv", "kvpos"])
@pytest.mark.parametrize("kind", ["cvt", "setr"])
def test_with_tied_weights_queries_can_go(variant: Any, kind: str) -> None:
    model, image = (
        cvt(stride=1)
        if kind == "cvt"
        else (create_segmenter("setr_pup_small", attention=Softmax(), classes=2).eval(), torch.randn(1, 3, 32, 32))
    )
    tie(model)
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, variant)
        assert torch.allclose(model(image), wanted, atol=1e-5)
    assert receipt.parameters_after < receipt.parameters_before == receipt.parameters_before
    assert receipt.parameters_after == sum(p.numel() for p in model.parameters())
    if kind == "cvt":
        assert receipt.key_map["stages.0.blocks.0.attn.project.linear.q.weight"] is None
        assert "stages.0.blocks.0.attn.project.linear.q.weight" not in model.state_dict()


def test_strided_keys_stay_with_their_reason() -> None:
    model, _ = cvt(stride=2)
    with pytest.raises(InputError, match="one key for 2 x 2 queries"):
        swap_attention(model, "kv")


def test_a_layer_without_queries_takes_none_back() -> None:
    model, _ = cvt(KV(), stride=1)
    with pytest.raises(InputError, match=r"was built with KV\(scale_by='head'\) and has no query weights"):
        swap_attention(model, "knn")
    receipt = swap_attention(model, KVPos(d_pos=5))
    assert receipt.parameters_after - receipt.parameters_before == 5 * 4
    assert all(layer.variant == KVPos(d_pos=5) for layer in describe(model))


def test_a_bias_of_the_layer_goes_on() -> None:
    table = torch.randn(2, 12, 12)
    model = nn.ModuleList([MultiHead(16, 2, Softmax(), bias=lambda _grid: table)])
    x, grid = torch.randn(1, 12, 16), Grid(3, 4)
    with torch.no_grad():
        wanted = model[0](x, grid)
        swap_attention(model, KNN(12))
        assert torch.allclose(model[0](x, grid), wanted, atol=1e-6)
        table.zero_()
        assert not torch.allclose(model[0](x, grid), wanted, atol=1e-3)


def test_the_original_projection_is_not_touched_by_a_dry_run() -> None:
    model, image = cvt(stride=1)
    wanted = model(image)
    swap_attention(model, "kv", dry_run=True)
    assert torch.equal(model(image), wanted)
