"""A swapped model is swapped again, and swaps are undone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers_zoo
from swapping import ALL, same, swapped
from timm_zoo import FAMILIES, tiny
from torch import nn

from fewpairs import KNN, KV, KeyOnly, KVPos, Softmax, swap_attention
from fewpairs.attention import Core
from fewpairs.errors import InputError
from fewpairs.swap import describe

pytestmark = pytest.mark.usefixtures("uncounted")
families = pytest.mark.parametrize("family", FAMILIES)


def weights(model: nn.Module) -> dict[str, int]:
    return {name: id(parameter) for name, parameter in model.named_parameters()}


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def skip_if_refused(model: nn.Module, variant: Any) -> None:
    try:
        swap_attention(model, variant, dry_run=True)
    except InputError as error:
        pytest.skip(str(error))


@families
def test_another_k_is_what_a_swap_of_the_original_gives(family: str) -> None:
    model, image = tiny(family)
    again = swapped(model, KNN(3))
    before = weights(again)
    swap_attention(again, KNN(2))
    assert weights(again) == before
    with torch.no_grad():
        assert torch.equal(again(image), swapped(model, KNN(2))(image))
        swap_attention(again, Softmax())
        assert same(again(image), model(image))


@families
def test_queries_go_in_a_second_swap_as_in_a_first(family: str) -> None:
    model, image = tiny(family)
    skip_if_refused(model, "kv")
    once, twice = copy.deepcopy(model), swapped(model, KNN(3))
    receipt = swap_attention(once, "kv")
    torch.manual_seed(0)
    again = swap_attention(twice, "kv")
    assert [layer.name for layer in again.swapped] == [layer.name for layer in receipt.swapped]
    assert [layer.name for layer in again.left] == [layer.name for layer in receipt.left]
    able = {layer.name for layer in describe(model) if layer.reason_left_alone is None}
    if left := [layer.name for layer in receipt.left if layer.name in able]:
        swap_attention(once, KNN(3), where=left)
    with torch.no_grad():
        assert torch.equal(twice(image), once(image))


@families
@pytest.mark.parametrize("variant", [KNN(3), KV(), KVPos()], ids=["knn", "kv", "kvpos"])
def test_undone_a_model_is_the_original_to_the_bit(family: str, variant: Any) -> None:
    model, image = tiny(family)
    before, modules = stored(model), [id(module) for module in model.modules()]
    skip_if_refused(model, variant)
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, variant)
        model(image)
        receipt.undo()
        assert torch.equal(model(image), wanted)
    assert equal(stored(model), before)
    assert [id(module) for module in model.modules()] == modules
    assert all(layer.variant is None for layer in describe(model))


@pytest.mark.parametrize("family", transformers_zoo.FAMILIES)
def test_transformers_models_are_swapped_again_and_undone(family: str) -> None:
    model, image = transformers_zoo.tiny(family)
    where = "*.layers.*" if family.startswith("siglip") else None  # their pooling is cross-attention
    with torch.no_grad():
        wanted = model(image)
        few, kv = swapped(model, KNN(2))(image), swapped(model, "kv", where=where)(image)
        one = swap_attention(model, KNN(3))
        two = swap_attention(model, KNN(2))
        assert torch.equal(model(image), few)
        two.undo()
        three = swap_attention(model, "kv", where=where)
        if not three.left:
            assert torch.equal(model(image), kv)
        three.undo()
        one.undo()
        assert torch.equal(model(image), wanted)


def test_a_schedule_of_k_keeps_the_optimizers_state() -> None:
    def trained(model: nn.Module, schedule: list[int]) -> dict[str, torch.Tensor]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for topk in schedule:
            swap_attention(model, KNN(topk))
            optimizer.zero_grad()
            model(image).square().mean().backward()
            optimizer.step()
        return stored(model)

    model, image = tiny("vit")
    steady, changed = copy.deepcopy(model), copy.deepcopy(model)
    swap_attention(steady, ALL)
    assert equal(trained(steady, [9, 9, 9]), trained(changed, [9, 9, 9]))
    assert not equal(trained(copy.deepcopy(model), [9, 3, 2]), trained(copy.deepcopy(model), [9, 9, 9]))


def test_weights_of_the_attention_itself_stay_where_they_fit() -> None:
    model, image = tiny("vit")
    swap_attention(model, KVPos(d_pos=20))
    with torch.no_grad():
        for layer in model.blocks:
            layer.attn.core.mix.weight.normal_()
        wanted, before = model(image), weights(model)
        swap_attention(model, KVPos(d_pos=20))
        assert weights(model) == before
        assert torch.equal(model(image), wanted)
    receipt = swap_attention(model, KeyOnly())
    assert receipt.key_map["blocks.0.attn.core.mix.weight"] is None
    assert receipt.new_keys == ("blocks.0.attn.core.mix.saliency", "blocks.1.attn.core.mix.saliency")
    receipt.undo()
    assert weights(model) == before
    assert torch.equal(model(image), wanted)


def test_queries_that_are_gone_do_not_come_back_by_a_swap() -> None:
    model, _ = tiny("vit")
    swap_attention(model, "kv", where=0)
    before = [id(module) for module in model.modules()]
    with pytest.raises(InputError, match=r"blocks.0.attn cannot be swapped: its query weights went.*receipt.undo\(\)"):
        swap_attention(model, KNN(2), where=[0, 1])
    assert [id(module) for module in model.modules()] == before
    receipt = swap_attention(model, KNN(2))
    assert [layer.name for layer in receipt.swapped] == ["blocks.1.attn"]
    with pytest.raises(
        InputError, match=r"none of the 1 selected layers can be swapped: blocks.0.attn.*its query weights went"
    ):
        swap_attention(model, "softmax", where="blocks.0*")
    rest = swap_attention(model, "kvpos", where=1)
    assert [left.reason for left in rest.left] == ["not selected; it has KV(scale_by='head')"]


@pytest.mark.parametrize("variant", [KNN(3), KV()], ids=["knn", "kv"])
def test_what_was_done_after_the_swap_holds_after_its_undoing(variant: Any) -> None:
    model, image = tiny("vit")
    receipt = swap_attention(model, variant)
    model.double().train()
    model.blocks[0].attn.proj = nn.Linear(32, 32).double()
    with torch.no_grad():
        model.blocks[1].attn.proj.weight.zero_()
    receipt.undo()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert (model.blocks[1].attn.proj.weight == 0).all()
    assert model(image.double()).isfinite().all()


def test_the_receipt_says_what_it_keeps_and_forgets_it_when_stored() -> None:
    model, _ = tiny("vit")
    receipt = swap_attention(model, KNN(2))
    assert receipt.undo_bytes == 0
    assert "undo" not in str(receipt)
    receipt.undo()
    dry = swap_attention(model, "kv", dry_run=True)
    receipt = swap_attention(model, "kv")
    split = 2 * 4 * (96 * 32 + 96)  # the projections of two layers, whole
    assert dry.undo_bytes == receipt.undo_bytes == split
    assert f"undo: the receipt keeps {split:,} bytes" in str(receipt)
    for copied in (pickle.loads(pickle.dumps(receipt)), copy.deepcopy(receipt), dry):
        with pytest.raises(InputError, match="only the receipt that swap_attention returned can undo"):
            copied.undo()
    assert len(pickle.dumps(model)) < len(pickle.dumps(tiny("vit")[0])), "the model keeps nothing of it"


def test_undoing_goes_backwards() -> None:
    model, image = tiny("vit")
    wanted = model(image)
    first = swap_attention(model, KNN(3))
    second = swap_attention(model, KNN(2))
    third = swap_attention(model, "kv")
    for early in (first, second):
        with pytest.raises(InputError, match=r"blocks.0.attn was changed since; undo the last swap first"):
            early.undo()
    third.undo()
    second.undo()
    assert [layer.variant for layer in describe(model)] == [KNN(3)] * 2
    first.undo()
    assert torch.equal(model(image), wanted)
    with pytest.raises(InputError, match="already undone"):
        first.undo()


def test_a_model_that_is_gone_or_compiled_is_said() -> None:
    model, _ = tiny("vit")
    receipt = swap_attention(model, KNN(3))
    model.compile(backend="eager")
    with pytest.raises(InputError, match="is compiled"):
        receipt.undo()
    del model
    import gc

    gc.collect()
    with pytest.raises(InputError, match="the model is gone"):
        receipt.undo()


@pytest.mark.parametrize("name", ["variant", "heads", "dim_head", "scale"])
def test_setting_what_a_core_was_built_of_is_an_error(name: str) -> None:
    model, _ = tiny("vit")
    swap_attention(model, KNN(3))
    for core in (model.blocks[0].attn.core, Core(KV(), 2, 16)):
        with pytest.raises(InputError, match=rf"core.{name} is fixed.*swap_attention"):
            setattr(core, name, KNN(5) if name == "variant" else 2)


def test_the_kernel_of_a_layer_is_that_of_the_last_swap() -> None:
    model, _ = tiny("vit")
    swap_attention(model, KNN(3), kernel="reference")
    receipt = swap_attention(model, KNN(2))
    assert model.blocks[0].attn.core.kernel is None
    receipt.undo()
    assert model.blocks[0].attn.core.kernel == "reference"
