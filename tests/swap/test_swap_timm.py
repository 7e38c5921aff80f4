"""k-NN attention in every family of timm: with all keys kept it is the model that was there."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers import Attention, AttentionRope
from timm.models.eva import EvaAttention
from timm_zoo import FAMILIES, tiny
from torch import Tensor, nn

from fewpairs import KNN, KV, swap_attention
from fewpairs.swap.module import SwappedModule

ALL = KNN(topk=10_000)
families = pytest.mark.parametrize("family", FAMILIES)
UNDROPPED = (
    "hiera",
    "sam2",
    "mvitv2",
    "tinyvit",
    "levit",
    "levit-conv",
    "efficientformer",
    "efficientformerv2",
    "davit",
)
"""Families whose layers drop no attention weights."""
OTHER_ORDER = ("nest",)
"""Families whose swapped layers draw for blocks of the image one after another, and timm's for heads first."""
pytestmark = pytest.mark.usefixtures("uncounted")


def swapped(model: nn.Module, variant: Any = ALL, **options: Any) -> nn.Module:
    """A copy of the model with the variant in it."""
    model = copy.deepcopy(model)
    swap_attention(model, variant, **options)
    return model


def same(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> bool:
    assert wanted.abs().max() > 0.02, "the model says nothing, so nothing is compared"
    return bool(torch.allclose(got, wanted, atol=tolerance, rtol=tolerance))


def gradients(model: nn.Module, image: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Output of the model in training mode, and what it gives each parameter."""
    model.train()
    torch.manual_seed(seed)
    output = first(model(image))
    output.square().mean().backward()
    return output, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def first(outputs: Any) -> Tensor:
    """The logits of models that give several in training."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


@families
@pytest.mark.parametrize("size", [0, 1])
def test_with_all_keys_kept_the_logits_are_the_originals(family: str, size: int) -> None:
    model, image = tiny(family, size)
    with torch.no_grad():
        wanted = model(image)
        assert same(swapped(model)(image), wanted)
        assert not same(swapped(model, KNN(topk=1))(image), wanted, 1e-2)


@families
def test_in_training_the_same_seed_gives_the_same_output_and_gradients(family: str) -> None:
    model, image = tiny(family, drop_path_rate=0.4)
    wanted, wanted_gradients = gradients(swapped(model, "softmax"), image, seed=3)
    plain, plain_gradients = gradients(copy.deepcopy(model), image, seed=3)
    got, got_gradients = gradients(swapped(model), image, seed=3)
    other, _ = gradients(copy.deepcopy(model), image, seed=4)
    assert same(got, plain)
    assert same(wanted, plain)
    assert not same(other, plain, 1e-3), "drop path drew nothing"
    assert got_gradients.keys() == plain_gradients.keys() == wanted_gradients.keys()
    largest = max(float(g.abs().max()) for g in plain_gradients.values())
    for name, gradient in plain_gradients.items():
        assert torch.allclose(got_gradients[name], gradient, atol=1e-5 * max(1, largest), rtol=1e-4), name


@families
def test_attention_dropout_draws_what_timms_own_layer_draws(family: str) -> None:
    model, image = tiny(family)
    for module in model.modules():
        if isinstance(drop := getattr(module, "attn_drop", None), nn.Dropout):
            drop.p, drop.inplace = 0.5, False
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    with torch.no_grad():
        quiet = model(image)
        model.train()
        replaced = swapped(model)
        torch.manual_seed(5)
        wanted = model(image)
        torch.manual_seed(5)
        got = replaced(image)
    assert same(first(got), first(wanted)) or family in OTHER_ORDER
    dropped = any(layer.core.attn_drop.p for layer in replaced.modules() if isinstance(layer, SwappedModule))
    assert dropped == (family not in UNDROPPED)
    assert not dropped or not same(first(got), quiet, 1e-2)


@families
def test_autocast_rounds_as_the_original_does(family: str) -> None:
    model, image = tiny(family)
    with torch.no_grad():
        exact = model(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wanted, got = model(image), swapped(model)(image)
    rounding = (wanted.float() - exact).abs().max()
    assert got.dtype == wanted.dtype
    assert (got.float() - wanted.float()).abs().max() <= 2 * rounding
    assert (got.float() - exact).abs().max() <= 2 * rounding


@families
def test_copies_pickles_and_checkpoints_go_to_and_fro(family: str) -> None:
    model, image = tiny(family)
    replaced = swapped(model, KNN(topk=3))
    assert list(replaced.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        wanted = replaced(image)
        assert torch.equal(copy.deepcopy(replaced)(image), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(replaced))(image), wanted)
        other = copy.deepcopy(replaced)
        for parameter in other.parameters():
            parameter.zero_()
        assert not torch.equal(other(image), wanted)
        other.load_state_dict(model.state_dict(), strict=True)
        assert torch.equal(other(image), wanted)
        model.load_state_dict(replaced.state_dict(), strict=True)


@pytest.mark.usefixtures("unchecked")
def test_a_layer_compiles_without_a_graph_break() -> None:
    layer, x = swapped(tiny("vit")[0], KNN(topk=3)).blocks[0].attn, torch.randn(2, 17, 32)
    torch.compiler.reset()
    with torch.no_grad():
        assert same(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@families
def test_compiles_without_a_graph_break(family: str) -> None:
    model, image = tiny(family)
    replaced = swapped(model, KNN(topk=3))
    torch.compiler.reset()
    with torch.no_grad():
        assert same(torch.compile(replaced, backend="eager", fullgraph=True)(image), replaced(image))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("family", ["vit", "dinov3", "swin", "swinv2", "tnt"])
def test_gradients_compile_without_a_graph_break(family: str) -> None:
    model, image = tiny(family)
    _, wanted = gradients(swapped(model, KNN(topk=3)), image, seed=0)
    torch.compiler.reset()
    compiled = torch.compile(swapped(model, KNN(topk=3)), backend="aot_eager", fullgraph=True)
    _, got = gradients(compiled, image, seed=0)
    for name, gradient in wanted.items():
        assert torch.allclose(got[f"_orig_mod.{name}"], gradient, atol=1e-4, rtol=1e-3), name


@pytest.mark.parametrize("family", ["beit", "eva-joint", "swinv2"])
@pytest.mark.parametrize("variant", [ALL, KV()], ids=["knn", "kv"])
def test_biases_added_after_the_product_are_the_same_biases(family: str, variant: Any) -> None:
    model, image = tiny(family)
    joined = swapped(model, variant)
    for module in model.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True
    with torch.no_grad():
        wanted = joined(image)
        assert same(swapped(model, variant)(image), wanted)
        for module in joined.modules():
            if hasattr(module, "qkv_bias_separate"):
                module.v_bias.zero_()
        assert not same(joined(image), wanted, 1e-3)


def test_gradient_checkpointing_and_frozen_weights_stay() -> None:
    model, image = tiny("vit")
    for parameter in model.blocks[0].parameters():
        parameter.requires_grad_(False)
    replaced = swapped(model, "kv")
    assert not any(p.requires_grad for p in replaced.blocks[0].parameters())
    wanted, _ = gradients(copy.deepcopy(replaced), image, seed=0)
    replaced.set_grad_checkpointing(True)
    got, grads = gradients(replaced, image, seed=0)
    assert same(got, wanted)
    assert "blocks.1.attn.kv.weight" in grads
    assert "blocks.0.attn.kv.weight" not in grads


@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple")  # timm resizes a table
@pytest.mark.parametrize(("family", "size"), [("swin", (112, 56)), ("swinv2", (64, 64)), ("vit", (64, 32))])
def test_timms_methods_still_work_on_swapped_layers(family: str, size: tuple[int, int]) -> None:
    model, _ = tiny(family)
    replaced = swapped(model)
    windows = {"window_size": (8, 8)} if family == "swinv2" else {}
    for each in (model, replaced):
        each.set_input_size(size, **windows)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        assert same(replaced(image), model(image))


def test_hooks_of_a_layer_stay_and_can_be_removed() -> None:
    model, image = tiny("vit")
    calls: list[nn.Module] = []
    handle = model.blocks[0].attn.register_forward_hook(lambda module, _args, _out: calls.append(module))
    swap_attention(model, "knn")
    model(image)
    assert calls == [model.blocks[0].attn]
    handle.remove()
    model(image)
    assert len(calls) == 1


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_dtype_are_the_layers(training: bool) -> None:
    model, _ = tiny("vit")
    model.double().train(training)
    swap_attention(model, "kvpos")
    layer = model.blocks[1].attn
    assert layer.core.mix.weight.dtype == layer.kv.weight.dtype == torch.float64
    assert {module.training for module in model.modules()} == {training}


@pytest.mark.parametrize("variant", [KNN(3), KV()], ids=["knn", "kv"])
def test_the_layer_that_was_there_is_not_changed(variant: Any) -> None:
    model, _ = tiny("vit-norms")
    old, x = model.blocks[0].attn, torch.randn(2, 6, 32)
    wanted, names = old(x), [name for name, _ in old.named_modules()]
    swap_attention(model, variant)
    assert model.blocks[0].attn is not old
    assert [name for name, _ in old.named_modules()] == names
    assert torch.equal(old(x), wanted)


def test_a_layer_that_stands_in_two_places_is_swapped_in_both() -> None:
    model, image = tiny("vit")
    model.blocks[1].attn = model.blocks[0].attn
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, ALL)
        assert [layer.name for layer in receipt.swapped] == ["blocks.0.attn"]
        assert isinstance(model.blocks[1].attn, SwappedModule)
        assert model.blocks[1].attn is model.blocks[0].attn
        assert same(model(image), wanted)


def test_features_of_a_swapped_model_are_there_for_dense_tasks() -> None:
    model, image = tiny("swin")
    with torch.no_grad():
        wanted = model.forward_intermediates(image, intermediates_only=True)
        got = swapped(model).forward_intermediates(image, intermediates_only=True)
    assert len(got) == len(wanted) == 2
    assert all(same(a, b) for a, b in zip(got, wanted, strict=True))


def test_timms_extractor_of_features_can_be_swapped_itself() -> None:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", features_only=True, out_indices=(0, 1), **options).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, ALL)
        assert [layer.name for layer in receipt.swapped] == ["model.blocks.0.attn", "model.blocks.1.attn"]
        assert all(same(a, b) for a, b in zip(model(image), wanted, strict=True))


@pytest.mark.parametrize("kind", [Attention, AttentionRope, EvaAttention])
@pytest.mark.parametrize("part", ["gate", "norm", "q_norm", "k_norm"])
def test_norms_and_gates_of_a_layer_are_kept(kind: type[nn.Module], part: str) -> None:
    options = {"qkv_bias": True, "qk_norm": True, "scale_norm": True, "gated": True, "norm_layer": nn.LayerNorm}
    model, x = nn.ModuleList([kind(32, num_heads=4, **options)]), torch.randn(2, 6, 32)
    with torch.no_grad():
        for parameter in model[0].get_submodule(part).parameters():
            parameter.normal_()
        wanted = model[0](x)
        swap_attention(model, ALL)
        assert same(model[0](x), wanted)
        for parameter in model[0].get_submodule(part).parameters():
            parameter.normal_()
        assert not same(model[0](x), wanted, 1e-3)


MASKS: dict[str, Callable[[int], dict[str, Any]]] = {
    "nothing": lambda n: {},
    "causal": lambda n: {"is_causal": True},
    "pairs": lambda n: {"attn_mask": torch.rand(n, n) < 0.7},
    "numbers": lambda n: {"attn_mask": torch.randn(2, 1, n, n)},
    "heads": lambda n: {"attn_mask": torch.randn(2, n, n)},
    "keys": lambda n: {"attn_mask": (torch.arange(n) < n - 3)[None, None, None]},
}


@pytest.mark.parametrize("family", ["vit", "rope", "eva"])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_that_a_layer_is_called_with_are_honoured(family: str, mask: str) -> None:
    model, _ = tiny(family)
    layer = model.blocks[0].attn
    x = torch.randn(2, 9, 32)
    given = MASKS[mask](9)
    if "attn_mask" in given and given["attn_mask"].dtype == torch.bool:
        given["attn_mask"] = given["attn_mask"].index_fill(-1, torch.tensor(0), True)
    with torch.no_grad():
        wanted, plain = layer(x, **given), layer(x)
        got = swapped(model).blocks[0].attn(x, **given)
    assert same(got, wanted)
    assert same(plain, wanted, 1e-3) == (mask == "nothing")
