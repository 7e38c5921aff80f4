"""Layers that are not what their class says: swapped right, or refused by name with what to do first."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
import torch.nn.utils as utils
import transformers_zoo
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_submodules
from swapping import ALL, same
from timm.layers import Attention
from timm_zoo import tiny
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from fewpairs import KNN, KV, KVPos, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import describe

pytestmark = [
    pytest.mark.usefixtures("uncounted"),
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*deprecated"),
    pytest.mark.filterwarnings("ignore:.*reduce_range"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),
]


def changed(how: Callable[[Attention], object]) -> tuple[nn.Module, Tensor]:
    """A small ViT whose attention layers went through `how`."""
    model, image = tiny("vit")
    for block in model.blocks:
        how(block.attn)
    return model.eval(), image


def kept(model: nn.Module, image: Tensor) -> None:
    """With all keys kept the swapped model is the model that was there."""
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, ALL)
        assert not receipt.left
        assert same(model(image), wanted)
        receipt.undo()
        assert torch.equal(model(image), wanted)


def refused(model: nn.Module, variant: Any, message: str) -> None:
    before = [id(module) for module in model.modules()]
    with pytest.raises(InputError, match=message):
        swap_attention(model, variant)
    assert [id(module) for module in model.modules()] == before


FORWARDS: dict[str, tuple[Callable[[Attention], object], str]] = {
    "accelerate": (lambda layer: add_hook_to_module(layer, ModelHook()), "remove_hook_from_submodules"),
    "method": (
        lambda layer: setattr(layer, "forward", types.MethodType(lambda self, x, **_: self.proj(x), layer)),
        "its forward pass was replaced on the instance",
    ),
    "partial": (
        lambda layer: setattr(layer, "forward", functools.partial(Attention.forward, layer)),
        "its forward pass was replaced on the instance",
    ),
}


@pytest.mark.parametrize("name", FORWARDS)
@pytest.mark.parametrize("variant", [ALL, KV()], ids=["knn", "kv"])
def test_a_replaced_forward_pass_is_refused(name: str, variant: Any) -> None:
    how, why = FORWARDS[name]
    model, _ = changed(how)
    refused(model, variant, rf"blocks.0.attn .*and 1 more\): .*{why}")
    assert all(why in str(layer.reason_left_alone) for layer in describe(model))


def test_a_layer_with_its_own_forward_pass_beside_others_is_left_alone_with_the_reason() -> None:
    model, image = tiny("vit")
    FORWARDS["method"][0](model.blocks[0].attn)
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, ALL)
        assert [layer.name for layer in receipt.swapped] == ["blocks.1.attn"]
        assert "replaced on the instance" in receipt.left[0].reason
        assert same(model(image), wanted)
    with pytest.raises(InputError, match=r"blocks.0.attn cannot be swapped: its forward pass was replaced"):
        swap_attention(model, ALL, where=0)


def test_what_accelerate_hooked_is_swapped_after_its_hooks_are_gone() -> None:
    model, image = changed(FORWARDS["accelerate"][0])
    remove_hook_from_submodules(model)
    kept(model, image)


def test_a_class_whose_forward_pass_somebody_replaced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny("vit")
    monkeypatch.setattr(Attention, "forward", lambda self, x, **_: x)
    refused(model, ALL, "forward pass of Attention was replaced by one of test_condition.*restore it first")


PROJECTIONS: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "pruned": (lambda map_: prune.l1_unstructured(map_, "weight", 0.5), "is pruned.*prune.remove"),
    "weight norm": (lambda map_: parametrizations.weight_norm(map_), "remove_parametrizations"),
    "older weight norm": (lambda map_: utils.weight_norm(map_), "remove_weight_norm"),
    "spectral norm": (lambda map_: parametrizations.spectral_norm(map_), "remove_parametrizations"),
    "older spectral norm": (lambda map_: utils.spectral_norm(map_), "remove_spectral_norm"),
    "parametrised": (
        lambda map_: parametrize.register_parametrization(map_, "weight", nn.Tanh()),
        "remove_parametrizations",
    ),
    "hook": (lambda map_: map_.register_forward_hook(lambda _m, _x, y: y * 2), "it has hooks"),
    "pre-hook": (lambda map_: map_.register_forward_pre_hook(lambda _m, x: (x[0] * 2,)), "it has hooks"),
    "accelerate": (lambda map_: add_hook_to_module(map_, ModelHook()), "remove_hook_from_submodules"),
    "buffer": (lambda map_: map_.register_buffer("mask", torch.ones(1)), "more than a weight and a bias"),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_changed_projections_stay_what_they_are_and_lose_no_rows(name: str) -> None:
    how, why = PROJECTIONS[name]
    kept(*changed(lambda layer: how(layer.qkv)))
    refused(changed(lambda layer: how(layer.qkv))[0], "kv", f"'qkv' cannot be separated: .*{why}")


@pytest.mark.parametrize("name", PROJECTIONS)
def test_changed_output_projections_are_kept_by_every_variant(name: str) -> None:
    how, _ = PROJECTIONS[name]
    model, image = changed(lambda layer: how(layer.proj))
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight[:32], block.attn.qkv.bias[:32] = (
                block.attn.qkv.weight[32:64],
                block.attn.qkv.bias[32:64],
            )
        wanted = model(image)
        swap_attention(model, "kv")
        assert same(model(image), wanted)


def test_what_was_made_permanent_loses_its_queries() -> None:
    model, image = changed(lambda layer: PROJECTIONS["pruned"][0](layer.qkv))
    for block in model.blocks:
        prune.remove(block.attn.qkv, "weight")
    rows = [block.attn.qkv.weight[32:].clone() for block in model.blocks]
    swap_attention(model, "kv")
    assert all(torch.equal(block.attn.kv.weight, its) for block, its in zip(model.blocks, rows, strict=True))
    assert model(image).isfinite().all()


def test_pruning_goes_on_in_training() -> None:
    model, image = changed(lambda layer: PROJECTIONS["pruned"][0](layer.qkv))
    swap_attention(model, KNN(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(image).square().mean().backward()
        optimizer.step()
    model(image)
    for block in model.blocks:
        assert ((block.attn.qkv.weight == 0) == (block.attn.qkv.weight_mask == 0)).all()


def test_quantised_projections() -> None:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    model, image = tiny("vit")
    kept(quantize(model, {nn.Linear}), image)
    refused(quantize(model, {nn.Linear}), "kv", "Linear; swap before replacing or quantising it")


class Quantised(nn.Linear):
    """As bitsandbytes stores a linear map: whole numbers and a factor, under the name of a weight."""

    def __init__(self, of: nn.Linear) -> None:
        super().__init__(of.in_features, of.out_features)
        self.bias = of.bias
        self.factor = of.weight.detach().abs().max() / 127
        self.weight = nn.Parameter((of.weight.detach() / self.factor).round().to(torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.factor, self.bias)


def test_quantised_subclasses() -> None:
    def quantise(layer: Attention) -> None:
        layer.qkv, layer.proj = Quantised(layer.qkv), Quantised(layer.proj)

    kept(*changed(quantise))
    model, image = changed(quantise)
    refused(model, "kv", "test_condition.Quantised; swap before replacing or quantising it")
    model, image = changed(lambda layer: setattr(layer, "proj", Quantised(layer.proj)))
    swap_attention(model, KVPos())
    assert all(block.attn.core.mix.weight.dtype == torch.float32 for block in model.blocks)
    assert model(image).isfinite().all()


class LowRank(nn.Module):
    """As published adapters of SAM wrap `qkv`: the map stays, and two small ones are added to its queries."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        self.qkv, self.a, self.b = qkv, nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x)
        return torch.cat([qkv[..., :32] + self.b(self.a(x)), qkv[..., 32:]], dim=-1)


def test_low_rank_adapters_of_ones_own() -> None:
    kept(*changed(lambda layer: setattr(layer, "qkv", LowRank(layer.qkv))))
    model, _ = changed(lambda layer: setattr(layer, "qkv", LowRank(layer.qkv)))
    refused(model, "kv", "LowRank; swap before replacing")


LORA = {"r": 4, "init_lora_weights": False}


def test_lora_before_the_swap() -> None:
    model, image = tiny("vit")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["qkv"], **LORA)).eval()
    kept(wrapped, image)
    refused(wrapped, "kv", r"peft.tuners.lora.layer.Linear; merge it first \(merge_and_unload\(\)\), or swap before")
    merged = wrapped.merge_and_unload()
    kept(merged, image)
    swap_attention(merged, "kv")


@pytest.mark.parametrize("variant", [KNN(3), KV()], ids=["knn", "kv"])
def test_lora_after_the_swap_is_trained_and_merged(variant: Any) -> None:
    model, image = tiny("vit")
    swap_attention(model, variant)
    name = "qkv" if "q" in variant.roles else "kv"
    with torch.no_grad():
        before = model(image)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=[name], r=4))
    with torch.no_grad():
        assert same(wrapped(image), before)
    wrapped(image).square().mean().backward()
    trained = {key for key, p in wrapped.named_parameters() if p.grad is not None}
    assert trained == {key for key, p in wrapped.named_parameters() if "lora" in key}
    with torch.no_grad():
        for key, parameter in wrapped.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.1)
        adapted = wrapped(image)
        assert not same(adapted, before, 1e-3)
        swap_attention(wrapped, variant)
        assert same(wrapped(image), adapted)
        merged = wrapped.merge_and_unload()
        assert same(merged(image), adapted)


def test_lora_on_transformers_before_and_after() -> None:
    model, image = transformers_zoo.tiny("vit")
    targets = peft.LoraConfig(target_modules=["q_proj", "v_proj"], **LORA)
    with torch.no_grad():
        wrapped = peft.get_peft_model(copy.deepcopy(model.model), targets).eval()
        wanted = wrapped(image).logits
        swap_attention(wrapped, ALL)
        assert same(wrapped(image).logits, wanted)
        swap_attention(model.model, KNN(3))
        few = model(image)
        wrapped = peft.get_peft_model(model.model, peft.LoraConfig(target_modules=["q_proj", "v_proj"]))
        assert same(wrapped(image).logits, few)


class Alone(nn.Module):
    """A model of one `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.head(self.attn(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda model: prune.l1_unstructured(model.attn, "in_proj_weight", 0.5), "'in_proj_weight' is pruned"),
        (lambda model: parametrizations.orthogonal(model.attn, "in_proj_weight"), "'in_proj_weight' is parametrised"),
        (
            lambda model: peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["attn"], **LORA), model),
            r"attn.base_layer .*: peft.tuners.lora.layer.MultiheadAttention wraps it.*merge_and_unload",
        ),
    ],
)
def test_pytorchs_own_layer_with_changed_weights_is_refused(how: Callable[[nn.Module], object], why: str) -> None:
    model = Alone().eval()
    how(model)
    refused(model, ALL, why)
    refused(model, "kv", why)


@pytest.mark.parametrize("how", [PROJECTIONS["pruned"][0], PROJECTIONS["weight norm"][0]])
def test_pytorchs_own_layer_with_a_changed_output_projection(how: Callable[[nn.Module], object]) -> None:
    model = Alone().eval()
    how(model.attn.out_proj)
    kept(model, torch.randn(2, 9, 32))


def test_shared_weights_stay_shared() -> None:
    model, image = tiny("vit")
    model.blocks[1].attn.qkv.weight = model.blocks[0].attn.qkv.weight
    for variant in (KNN(3), KV()):
        swap_attention(model, variant)
        one, two = (getattr(block.attn, "qkv" if variant == KNN(3) else "kv") for block in model.blocks)
        assert one.weight is two.weight
        assert one.bias is not two.bias
    assert model(image).isfinite().all()


def test_a_layer_that_stands_in_two_places_does_so_after_the_swap() -> None:
    model, _ = tiny("vit")
    model.blocks[1].attn = model.blocks[0].attn
    receipt = swap_attention(model, "kv")
    assert model.blocks[1].attn is model.blocks[0].attn
    receipt.undo()
    assert model.blocks[1].attn is model.blocks[0].attn
    assert type(model.blocks[0].attn) is Attention


def test_rows_that_another_part_uses_are_not_untied() -> None:
    model, _ = tiny("vit")
    model.head = nn.Linear(32, 96)
    model.head.weight = model.blocks[0].attn.qkv.weight
    swap_attention(model, KNN(3))
    refused(model, "kv", "head.weight shares its weights with a layer.*exclude that layer with where=")


@pytest.mark.parametrize("variant", [KNN(3), KV()], ids=["knn", "kv"])
def test_frozen_weights_stay_frozen(variant: Any) -> None:
    model, image = tiny("vit")
    model.requires_grad_(False)
    model.blocks[1].attn.qkv.bias.requires_grad_(True)
    swap_attention(model, variant)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable == [f"blocks.1.attn.{'qkv' if variant == KNN(3) else 'kv'}.bias"]
    model(image).sum().backward()


def test_hooks_of_the_layer_see_the_new_layer() -> None:
    model, image = tiny("vit")
    layer, seen = model.blocks[0].attn, []
    note: Any = lambda name: lambda module, *_: seen.append((name, type(module).__name__))  # noqa: E731
    handles = [
        layer.register_forward_pre_hook(note("before")),
        layer.register_forward_hook(note("after")),
        layer.register_full_backward_pre_hook(note("gradient before")),
        layer.register_full_backward_hook(note("gradient")),
        layer.register_state_dict_pre_hook(note("stored")),
        layer.register_load_state_dict_pre_hook(note("loaded")),
        layer.register_load_state_dict_post_hook(note("was loaded")),
    ]

    def told() -> set[tuple[str, str]]:
        seen.clear()
        model(image.requires_grad_()).sum().backward()
        model.load_state_dict(model.state_dict())
        return set(seen)

    before = told()
    assert len(before) == len(handles)
    assert {kind for _, kind in before} == {"Attention"}
    receipt = swap_attention(model, KNN(3))
    assert told() == {(name, "SwappedAttention") for name, _ in before}
    receipt.undo()
    assert told() == before
    swap_attention(model, KNN(3))
    for handle in handles:
        handle.remove()
    assert not told()


def test_a_method_that_was_set_on_the_layer_works_on_the_new_one() -> None:
    model, _ = tiny("vit")
    layer = model.blocks[0].attn
    layer.width = types.MethodType(lambda self: (type(self).__name__, self.num_heads), layer)
    swap_attention(model, KNN(3))
    assert model.blocks[0].attn.width() == ("SwappedAttention", 2)
