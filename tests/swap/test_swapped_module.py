"""What a swapped layer takes over: its scale of the logits above all, and its maps without rows."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm_zoo import tiny
from torch import nn

from fewpairs import KNN, KV, swap_attention
from fewpairs.ops import knn_attention
from fewpairs.swap.adapter import Adapter, type_name
from fewpairs.swap.module import without_rows
from fewpairs.swap.registry import adapters

pytestmark = pytest.mark.usefixtures("uncounted")


@pytest.mark.parametrize("scale_by", ["head", "width"])
@pytest.mark.parametrize("scale", [16**-0.5, 32**-0.5, 0.7])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_the_layers_scale_is_kept_whatever_the_variants_is(scale: float, scale_by: str, metric: str) -> None:
    model, _ = tiny("vit")
    layer, x = model.blocks[0].attn, torch.randn(2, 9, 32)
    layer.scale, layer.fused_attn = scale, False  # timm's fused path has a scale of its own
    q, k, v = layer.qkv(x).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    dense = layer(x)
    few = knn_attention(q, k, v, topk=4, scale=scale, metric=metric).transpose(1, 2).flatten(2)
    for topk, wanted in ((9, dense), (4, layer.proj(few))):
        replaced = copy.deepcopy(model)
        receipt = swap_attention(replaced, KNN(topk, metric=metric, scale_by=scale_by), where=0)
        assert torch.allclose(replaced.blocks[0].attn(x), wanted, atol=1e-5)
        named = {16**-0.5: "head", 32**-0.5: "width"}.get(scale, "head")
        assert receipt.swapped[0].variant.scale_by == named


def test_a_scale_of_ones_own_holds_without_queries_too() -> None:
    model, _ = tiny("vit")
    layer, x = model.blocks[0].attn, torch.randn(2, 9, 32)
    layer.scale, layer.fused_attn = 0.7, False
    with torch.no_grad():
        for parameter in layer.qkv.parameters():
            parameter[:32] = parameter[32:64]
        wanted = layer(x)
        swap_attention(model, KV("width"), where=0)
        assert torch.allclose(model.blocks[0].attn(x), wanted, atol=1e-5)


@given(st.integers(0, 5), st.booleans(), st.booleans())
def test_rows_are_taken_off_the_front(count: int, bias: bool, convolution: bool) -> None:
    layer = nn.Conv2d(3, 6, 1, bias=bias) if convolution else nn.Linear(3, 6, bias=bias)
    x = torch.randn(2, 3, 4, 5) if convolution else torch.randn(2, 4, 3)
    whole = layer(x)
    kept = without_rows(layer, count)
    assert torch.allclose(kept(x), whole[:, count:] if convolution else whole[..., count:], atol=1e-6)
    assert f"{6 - count}" in repr(kept)
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.zero_()
    assert torch.equal(layer(x), whole), "the original has its own weights still"


def test_every_adapter_says_which_types_it_is_for_and_none_is_claimed_twice() -> None:
    claimed = [name for adapter in adapters() for name in adapter.matches]
    assert len(set(claimed)) == len(claimed)
    assert all(name.count(".") >= 2 for name in claimed)
    assert type_name(nn.Linear) == "torch.nn.modules.linear.Linear"
    assert sum(isinstance(adapter, Adapter) for adapter in adapters()) >= 18
