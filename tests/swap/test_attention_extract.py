"""timm's extractor of attention maps, on swapped models."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.utils import AttentionExtract
from timm_zoo import FAMILIES, tiny
from torch import nn

from fewpairs import KNN, swap_attention

pytestmark = pytest.mark.usefixtures("uncounted")


def written_out(model: nn.Module) -> nn.Module:
    """The model with fused attention off, as timm's `set_fused_attn(False)` builds it."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


UNNAMED = {
    *("hiera", "sam2", "mvitv2", "tinyvit", "levit", "levit-conv", "efficientformer", "efficientformerv2", "davit"),
    "nest",  # the original's maps have the blocks before the heads, ours after
}
"""Families whose layers have no `attn_drop` by which timm finds maps, or whose maps have other axes."""


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in UNNAMED])
def test_with_all_keys_kept_the_maps_are_the_dense_models(family: str) -> None:
    """The maps are within twice the error that the original's own have, against the original in float64."""
    model, image = tiny(family)
    replaced = copy.deepcopy(model)
    swap_attention(replaced, KNN(10_000))
    with torch.no_grad():
        wanted = AttentionExtract(written_out(model), method="hook")(image)
        got = AttentionExtract(written_out(replaced), method="hook")(image)
        exact = AttentionExtract(written_out(model).double(), method="hook")(image.double())
    assert [name for name in got if name in wanted] == list(wanted)
    for name, weights in wanted.items():
        error = (weights - exact[name]).abs().max().item()
        assert (got[name].reshape(weights.shape) - exact[name]).abs().max().item() <= 2 * error + 1e-7, name


@pytest.mark.parametrize("family", sorted(UNNAMED - {"nest"}))
def test_where_timm_finds_no_maps_it_says_so(family: str) -> None:
    model, _ = tiny(family)
    with pytest.raises(RuntimeError, match="No module names found"):
        AttentionExtract(written_out(model), method="hook")


@pytest.mark.parametrize("family", ["vit", "rope", "swin", "swinv2", "pvt", "tnt"])
def test_below_that_each_row_keeps_k_weights(family: str) -> None:
    model, image = tiny(family)
    swap_attention(model, KNN(3))
    with torch.no_grad():
        maps = AttentionExtract(written_out(model), method="hook")(image)
    assert maps
    for weights in maps.values():
        kept = min(3, weights.shape[-1])
        assert torch.equal((weights > 0).sum(-1), torch.full(weights.shape[:-1], kept))
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)


def test_switching_fusion_off_and_on_changes_nothing_but_the_way() -> None:
    model, image = tiny("swin")
    swap_attention(model, KNN(3))
    with torch.no_grad():
        fused = model(image)
        explicit = written_out(model)(image)
    assert torch.allclose(fused, explicit, atol=1e-5)
    assert not model.layers[0].blocks[0].attn.core.fused_attn
    assert "fused_attn" not in vars(model.layers[0].blocks[0].attn)


def test_the_models_own_setting_goes_over() -> None:
    model, _ = tiny("vit")
    model.blocks[0].attn.fused_attn = False
    swap_attention(model, KNN(3))
    assert [block.attn.fused_attn for block in model.blocks] == [False, True]


def test_timms_tracer_takes_a_swapped_layer_for_one_node() -> None:
    model, image = tiny("vit")
    swap_attention(model, KNN(3))
    extract = AttentionExtract(model, names=["*attn"], method="fx")
    with torch.no_grad():
        outputs = extract(image)
        assert list(outputs) == ["blocks.0.attn", "blocks.1.attn"]
        x = model.patch_embed(image)
        x = model.norm_pre(model.patch_drop(model._pos_embed(x)))
        assert torch.allclose(outputs["blocks.0.attn"], model.blocks[0].attn(model.blocks[0].norm1(x)), atol=1e-6)
