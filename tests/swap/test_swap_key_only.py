"""Key-only attention in models that somebody else built: where it goes, and why it does not."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from timm_zoo import tiny
from torch import nn

from fewpairs import KeyOnly, swap_attention
from fewpairs.errors import InputError


def vit(**options: object) -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2, num_classes=3, **options
    ).eval()


def test_a_vit_loses_its_queries_and_keeps_the_rest() -> None:
    model = vit()
    kept = model.blocks[0].attn.qkv.weight[24:].clone()
    receipt = swap_attention(model, "keyonly")
    assert len(receipt.swapped) == 2
    assert receipt.parameters_after - receipt.parameters_before == 2 * (24 - 24 * 24 - 24)
    assert torch.equal(model.blocks[0].attn.kv.weight, kept)
    image = torch.randn(2, 3, 32, 32)
    wanted = model(image)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(image), wanted)
    wanted.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("variant", "options", "reason"),
    [
        (KeyOnly("R3"), {}, "the layer gets no positions of its tokens"),
        (KeyOnly(gate="conv"), {}, "the layer gets no positions of its tokens"),
        (KeyOnly(), {"attn_drop_rate": 0.1}, r"it drops 0.1 of its attention weights in training \(set that to 0\)"),
    ],
)
def test_layers_that_cannot_have_it_say_why(variant: KeyOnly, options: dict[str, float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        swap_attention(vit(**options), variant)


@pytest.mark.parametrize(
    ("family", "layers"), [("hiera", 1), ("sam2", 2), ("davit", 2), ("nest", 2), ("fastvit", 1), ("nextvit", 1)]
)
def test_it_goes_into_hierarchies_where_scores_are_the_tokens_own(family: str, layers: int) -> None:
    model, image = tiny(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receipt = swap_attention(model, "keyonly")
    assert len(receipt.swapped) == layers
    after = model.state_dict()
    for old, new in receipt.key_map.items():
        assert new is None or torch.equal(after[new], before[old][-len(after[new]) :])
    output = model(image)
    output.square().mean().backward()
    for layer in receipt.swapped:
        for parameter in model.get_submodule(layer.name).parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()


def test_windows_with_a_table_of_positions_stay() -> None:
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=12, depths=(1, 1), num_heads=(1, 2)
    )
    with pytest.raises(InputError, match="a table of relative positions"):
        swap_attention(model, "keyonly")


def test_padding_masks_are_honoured_and_weights_of_pairs_refused() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    model = nn.ModuleDict({"attention": attention})
    swap_attention(model, "keyonly")
    x, padding = torch.randn(2, 7, 16), torch.zeros(2, 7, dtype=torch.bool)
    padding[:, 5:] = True
    got, _ = model["attention"](x, x, x, key_padding_mask=padding, need_weights=False)
    few = x[:, :5]
    wanted, _ = model["attention"](few, few, few, need_weights=False)
    torch.testing.assert_close(got[:, :5], wanted)
    with pytest.raises(InputError, match=r"has no weights of pairs"):
        model["attention"](x, x, x)
    with pytest.raises(InputError, match="has no pairs"):
        model["attention"](x, x, x, attn_mask=torch.randn(7, 7), need_weights=False)
