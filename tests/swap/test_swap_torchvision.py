"""torchvision's ViT, Swin and SwinV2: with all keys kept they are the models that were there."""

from __future__ import annotations

import copy

import jaxtyping
import pytest
import torch
from swapping import (
    compiles_like_eager,
    goes_to_and_fro,
    gradients_agree,
    rounds_like_the_original,
    same,
    swapped,
    tie,
    trained,
)
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision_zoo import FAMILIES, tiny

from fewpairs import KNN, swap_attention
from fewpairs.swap.module import SwappedModule

families = pytest.mark.parametrize("family", FAMILIES)


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
    model, image = tiny(family, drop=0.4)
    wanted, gradients = trained(copy.deepcopy(model), image, seed=3)
    got, got_gradients = trained(swapped(model), image, seed=3)
    assert same(got, wanted)
    assert not same(trained(copy.deepcopy(model), image, seed=4)[0], wanted, 1e-3), "nothing was dropped"
    gradients_agree(got_gradients, gradients)


@families
def test_autocast_rounds_as_the_original_does(family: str) -> None:
    model, image = tiny(family)
    rounds_like_the_original(model, image)


@families
def test_copies_pickles_and_checkpoints_go_to_and_fro(family: str) -> None:
    model, image = tiny(family)
    goes_to_and_fro(model, image)


@pytest.mark.parametrize(
    "family", ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin", "swinv2"))]
)
def test_compiles_without_a_graph_break(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks of tests alone would break the graph
    model, image = tiny(family)
    assert compiles_like_eager(swapped(model, KNN(topk=3)), image)


@families
@pytest.mark.parametrize("size", [0, 1])
def test_kv_is_the_original_where_queries_are_keys(family: str, size: int) -> None:
    model, image = tiny(family, size)
    tie(model, [layer.name for layer in swap_attention(model, "kv", dry_run=True).swapped])
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, "kv")
        assert same(model(image), wanted)
    renamed = {old: new for old, new in receipt.key_map.items() if new != old}
    assert renamed
    for old, new in renamed.items():
        part = old.rsplit(".", 1)[0] if family == "vit" else old.rsplit(".", 2)[0]
        options = ("in_proj_", "kv_proj_") if family == "vit" else ("qkv.", "kv.")
        assert new == part + old.removeprefix(part).replace(*options)
    assert set(receipt.key_map.values()) <= set(model.state_dict())


@families
def test_kv_drops_a_third_of_each_projection(family: str) -> None:
    model, _ = tiny(family)
    receipt = swap_attention(model, "kv", dry_run=True)
    dims = [layer.heads * layer.dim_head for layer in receipt.swapped]
    assert receipt.parameters_before - receipt.parameters_after == sum(dim * dim + dim for dim in dims)
    assert not any(isinstance(module, SwappedModule) for module in model.modules())


def test_stages_of_swin_may_differ() -> None:
    model, image = tiny("swin")
    receipt = swap_attention(model, [KNN(topk=2), KNN(topk=5)])
    assert [layer.variant.topk for layer in receipt.swapped] == [2, 2, 5, 5]
    assert receipt.family == "Swin (torchvision)"
    assert model(image).isfinite().all()


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (20, 36), (64, 16)])
@pytest.mark.parametrize("family", ["swin", "swinv2"])
def test_maps_of_one_window_in_a_direction_are_not_shifted_there(family: str, size: tuple[int, int]) -> None:
    model, _ = tiny(family)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert same(swapped(model)(image), model(image))


def test_attention_dropout_is_the_layers() -> None:
    model, image = tiny("swin")
    for layer in model.modules():
        if isinstance(layer, ShiftedWindowAttention):
            layer.attention_dropout = 0.5
    replaced = swapped(model)
    with torch.no_grad():
        quiet = model(image)
        torch.manual_seed(1)
        wanted = model.train()(image)
        torch.manual_seed(1)
        assert same(replaced.train()(image), wanted)
        assert not same(wanted, quiet, 1e-2)


@families
def test_features_can_be_extracted_with_swapped_layers_as_leaves(family: str) -> None:
    model, image = tiny(family)
    node = "encoder.layers.encoder_layer_0" if family == "vit" else "features.1"
    leaves = {
        "leaf_modules": [
            kind for kind in {type(m) for m in swapped(model).modules()} if issubclass(kind, SwappedModule)
        ]
    }
    with torch.no_grad():
        wanted = create_feature_extractor(model, [node])(image)[node]
        got = create_feature_extractor(swapped(model), [node], tracer_kwargs=leaves)(image)[node]
    assert same(got, wanted)
