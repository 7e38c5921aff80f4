"""Swaps that cannot be: each one clear message, and the model as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from timm.layers import Attention
from timm_zoo import tiny
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fewpairs import swap_attention
from fewpairs.errors import InputError

pytestmark = pytest.mark.usefixtures("uncounted")


def refused(model: nn.Module, message: str, variant: Any = "knn", **options: Any) -> None:
    """The swap is refused with this message, and changes nothing."""
    before = [id(module) for module in model.modules()]
    with pytest.raises(InputError, match=message):
        swap_attention(model, variant, **options)
    assert [id(module) for module in model.modules()] == before


def test_an_unknown_family_is_told_which_there_are() -> None:
    refused(nn.Sequential(nn.Linear(2, 2)), r"Sequential has no attention layer.*BEiT \(timm\).*Swin V2 \(timm\).*TNT")


class OddAttention(nn.Module):
    """A layer that no adapter is for."""


def test_attention_of_an_unknown_kind_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), OddAttention())
    refused(model, r"\(1 \(test_swap_errors.OddAttention\): there is no adapter for test_swap.*supported families")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("coat_tiny", {}, "sums over the keys before it meets the queries"),
        ("vit_tiny_patch16_224", {"depth": 1, "attn_layer": "diff"}, "the difference of two softmax maps"),
        (
            "vit_tiny_patch16_224",
            {"depth": 1, "block_fn": "scaling"},
            "attention and feed-forward share one projection",
        ),
    ],
)
def test_kinds_that_no_variant_replaces_have_their_reason(name: str, options: dict[str, Any], reason: str) -> None:
    if options.get("block_fn"):
        options = {**options, "block_fn": timm.models.vision_transformer.ParallelScalingBlock}
    refused(timm.create_model(name, num_classes=2, **options), reason)


def test_a_layer_of_an_unknown_kind_beside_known_ones_is_left_alone_with_that_reason() -> None:
    model, _ = tiny("vit")
    model.extra = OddAttention()
    receipt = swap_attention(model, "knn")
    assert [(left.name, left.reason) for left in receipt.left] == [
        ("extra", "there is no adapter for test_swap_errors.OddAttention")
    ]


def test_attention_over_channels_is_left_alone_beside_class_attention() -> None:
    receipt = swap_attention(timm.create_model("xcit_nano_12_p16_224", depth=1, num_classes=2), "knn")
    assert {layer.family for layer in receipt.swapped} == {"CaiT's class attention (timm)"}
    assert ["weighs channels against channels" in left.reason for left in receipt.left] == [True]


def test_a_subclass_with_ways_of_its_own_is_not_taken_for_its_parent() -> None:
    class Mine(Attention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    model, _ = tiny("vit")
    model.blocks[0].attn.__class__ = Mine
    receipt = swap_attention(model, "knn")
    assert [layer.name for layer in receipt.swapped] == ["blocks.1.attn"]
    assert "Mine" in receipt.left[0].reason


def test_a_layer_alone_has_nothing_to_be_exchanged_in() -> None:
    refused(Attention(32, 4), "Attention is itself an attention layer.*Sequential")


def test_a_model_must_be_one() -> None:
    with pytest.raises(InputError, match="str is not a module"):
        swap_attention("vit_tiny_patch16_224", "knn")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "blocks.7.attn"}, "no attention layer has the name 'blocks.7.attn'; did you mean 'blocks.*'"),
        ({"where": 2}, "there is no layer 2; the model has 2, from 0 to 1"),
        ({"where": "blocks.0"}, r"contains some; use 'blocks.0.\*'"),
        ({"where": lambda layer: layer.stage == 5}, "selects no layer; the model has blocks.0.attn, blocks.1.attn"),
        ({"variant": "knnn"}, "attention 'knnn' is not known; did you mean 'knn'"),
        ({"variant": {"name": "knn", "topk": 0}}, "topk"),
        ({"variant": ["knn", "kv", "kv"]}, r"3 variants were given for 2 layers in 1 stages of \[2\]"),
    ],
)
def test_selectors_and_variants_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    refused(tiny("vit")[0], message, **options)


@pytest.mark.parametrize("part", ["", "blocks.1"])
@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_a_compiled_model_is_swapped_before(part: str, how: str) -> None:
    model, _ = tiny("vit")
    target = model.get_submodule(part) if part else model
    if how == "in place":
        target.compile(backend="eager")
    elif part:
        model.blocks[1] = torch.compile(target, backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    refused(model, r"is compiled and would keep the old layers; swap first")


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_wrapped_model_is_swapped_before() -> None:
    model, _ = tiny("vit")
    refused(DistributedDataParallel(copy.deepcopy(model)), "wrapped.*DistributedDataParallel.*swap first, then wrap")
    refused(nn.DataParallel(model), "wrapped.*DataParallel")


@pytest.mark.usefixtures("group")
def test_a_sharded_model_is_swapped_before() -> None:
    model, _ = tiny("vit")
    fully_shard(model.blocks[0], mesh=dist.init_device_mesh("cpu", (1,)))
    refused(model, "its part 'blocks.0' is wrapped .FSDPModule.*swap first, then wrap")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_model_is_swapped_before() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(2, 2)))
    refused(model, "its part '0' is TorchScript")
