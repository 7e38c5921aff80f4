"""MONAI, segmentation_models_pytorch and open_clip: with all keys kept they are the models that were there."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from libraries_zoo import FAMILIES, tiny
from monai.networks.blocks import SABlock
from monai.networks.nets import AttentionUnet
from open_clip.transformer import Attention as ClipAttention
from swapping import (
    alike,
    goes_to_and_fro,
    gradients_agree,
    keeps_rows,
    swapped,
    swaps_again_and_undoes,
    tie,
    trained,
)
from torch import Tensor, nn

from fewpairs import KNN, KV, KeyOnly, KVPos, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import describe

families = pytest.mark.parametrize("family", FAMILIES)
pytestmark = [
    pytest.mark.usefixtures("uncounted"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@families
@pytest.mark.parametrize("size", [0, 1])
def test_with_all_keys_kept_the_output_is_the_originals(family: str, size: int) -> None:
    model, image = tiny(family, size)
    new = swapped(model)
    assert list(new.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        wanted = model(image)
        assert alike(new(image), wanted)
        assert not alike(swapped(model, KNN(topk=1))(image), wanted, 1e-2)


@families
def test_in_training_the_same_seed_gives_the_same_output_and_gradients(family: str) -> None:
    model, image = tiny(family, drop=True)
    wanted, gradients = trained(copy.deepcopy(model), image, seed=3)
    got, got_gradients = trained(swapped(model), image, seed=3)
    assert alike(got, wanted)
    assert not FAMILIES[family].drops or not alike(trained(copy.deepcopy(model), image, seed=4)[0], wanted, 1e-3)
    gradients_agree(got_gradients, gradients)


@families
def test_copies_pickles_and_checkpoints_go_to_and_fro(family: str) -> None:
    model, image = tiny(family)
    goes_to_and_fro(model, image)


def same_model_without_queries(family: str, variant: Any, size: int) -> tuple[nn.Module, Any, Tensor]:
    """The swapped model whose queries were the keys, its receipt, and its image; the output is the original's."""
    model, image = tiny(family, size)
    tie(model, [layer.name for layer in swap_attention(model, variant, dry_run=True).swapped])
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, variant)
        assert alike(model(image), wanted)
    return model, receipt, image


@families
@pytest.mark.parametrize(("variant", "size"), [(KV(), 0), (KV(), 1), (KVPos(), 0)], ids=["kv", "kv-wide", "kvpos"])
def test_without_queries_it_is_the_original_where_queries_are_keys(family: str, variant: Any, size: int) -> None:
    model, receipt, _ = same_model_without_queries(family, variant, size)
    before, after = tiny(family, size)[0].state_dict(), model.state_dict()
    assert len(receipt.new_keys) == (len(receipt.swapped) if isinstance(variant, KVPos) else 0)
    assert receipt.parameters_after < receipt.parameters_before or isinstance(variant, KVPos)
    keeps_rows(before, after, receipt.key_map)


@families
def test_swapping_again_and_undoing_are_as_if_the_first_swap_had_not_been(family: str) -> None:
    model, image = tiny(family)
    swaps_again_and_undoes(model, image)


LEFT = {
    "monai-relative": {"layers.1": "keys are those of a context, not of the queries"},
    "monai-context": {"block.cross_attn": "keys are those of a context, not of the queries"},
    "clip-pooler": {"attn_pool": "its queries are learned, and are no tokens of the image"},
}


@pytest.mark.parametrize("family", LEFT)
def test_layers_whose_keys_are_elsewhere_are_left_alone_with_the_reason(family: str) -> None:
    model, _ = tiny(family)
    receipt = swap_attention(model, "kv")
    assert {left.name: left.reason.split("and here ")[-1] for left in receipt.left} == LEFT[family]
    with pytest.raises(InputError, match="cannot be swapped"):
        swap_attention(tiny(family)[0], "kv", where=next(iter(LEFT[family])))


def test_mit_leaves_reduced_keys_and_gates_alone() -> None:
    receipt = swap_attention(tiny("smp-mit")[0], "kv")
    assert [layer.name for layer in receipt.swapped] == ["encoder.block4.0.attn", "encoder.block4.1.attn"]
    reasons = {left.reason.split("and here ")[-1] for left in receipt.left}
    assert reasons == {
        *(f"there is one key for {ratio} x {ratio} queries" for ratio in (8, 4, 2)),
        "it is a gate of the decoder, or nothing: there are no queries and keys",
    }


@pytest.mark.parametrize("family", ["monai-vit", "clip", "clip-custom", "monai-unetr"])
def test_key_only_goes_where_scores_are_the_tokens_own(family: str) -> None:
    model, image = tiny(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receipt = swap_attention(model, KeyOnly())
    assert not receipt.left
    with torch.no_grad():
        assert model(image).isfinite().all()
    for old, new in receipt.key_map.items():
        if new is not None and "proj" not in old:
            assert torch.equal(model.state_dict()[new], before[old][-len(model.state_dict()[new]) :])


@pytest.mark.parametrize(
    ("layer", "variant", "reason"),
    [
        (SABlock(24, 2, causal=True, sequence_length=9), KeyOnly(), "adds a causal mask to its scores"),
        (SABlock(24, 2, rel_pos_embedding="decomposed", input_size=(3, 3)), KeyOnly(), "that depends on the queries"),
        (
            SABlock(24, 2, save_attn=True),
            KeyOnly(),
            r"attention maps \(save_attn=True\), and KeyOnly.* has none",
        ),
        (SABlock(24, 2, 0.1), KeyOnly(), "drops 0.1 of its attention weights in training"),
        (SABlock(24, 2, 0.1, use_flash_attention=True), KNN(3), "MONAI drops attention weights in evaluation too"),
    ],
)
def test_what_a_block_of_monai_cannot_have_is_said(layer: nn.Module, variant: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        swap_attention(nn.Sequential(layer), variant)


def test_masks_and_kept_maps_of_a_block_are_the_originals() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(SABlock(24, 2, save_attn=True)), torch.randn(2, 9, 24)
    mask = torch.ones(2, 9).index_fill(1, torch.tensor([2, 7]), 0)
    few = swapped(model, KNN(topk=3))
    new = swapped(model)
    assert alike(new[0](x, attn_mask=mask), model[0](x, attn_mask=mask))
    torch.testing.assert_close(new[0].att_mat, model[0].att_mat)
    few[0](x, attn_mask=mask)
    assert ((few[0].att_mat > 0).sum(-1) == 3).all()
    assert (few[0].att_mat[..., [2, 7]] == 0).all()
    causal = swapped(nn.Sequential(SABlock(24, 2, causal=True, sequence_length=9)))
    with pytest.raises(InputError, match="causal=True, which supports no attention masks"):
        causal[0](x, attn_mask=mask)


def test_gates_of_attention_unet_have_no_queries() -> None:
    model = AttentionUnet(2, 1, 2, channels=(4, 8), strides=(2,))
    assert {layer.reason_left_alone for layer in describe(model)} == {
        "it is a gate of a skip connection: there are no queries and keys"
    }


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("mask", ["none", "ignored", "heads", "numbers"])
def test_masks_of_open_clips_layer(norm: bool, mask: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(ClipAttention(24, 2, qk_norm=norm)).eval(), torch.randn(3, 7, 24)
    given = {
        "none": None,
        "ignored": torch.ones(7, 7, dtype=torch.bool).triu(1),
        "heads": torch.randn(6, 7, 7),
        "numbers": torch.randn(7, 7),
    }[mask]
    assert alike(swapped(model)[0](x, attn_mask=given), model[0](x, attn_mask=given))


@pytest.mark.parametrize("factor", [1.0, 9.0])
def test_scaled_cosines_of_open_clip_against_the_formula_in_float64(factor: float) -> None:
    """The original cannot run: it multiplies tensors of four dimensions by `torch.bmm`."""
    torch.manual_seed(0)
    layer = ClipAttention(24, 2, scaled_cosine=True, scale_heads=True, logit_scale_max=4.0).eval()
    with torch.no_grad():
        layer.head_scale.copy_(torch.randn(2, 1, 1))
        layer.logit_scale.mul_(factor)
    x = torch.randn(3, 7, 24)
    with pytest.raises(RuntimeError, match="must be a 3D tensor"):
        layer(x)
    model = swapped(nn.Sequential(layer))
    layer, x64 = layer.double(), x.double()
    q, k, v = (layer.in_proj_weight @ x64.mT + layer.in_proj_bias[:, None]).mT.unflatten(-1, (3, 2, 12)).unbind(2)
    q, k, v = (role.transpose(1, 2) for role in (q, k, v))
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * layer.logit_scale.clamp(max=4.0).exp()
    wanted = layer.out_proj(((scores.softmax(-1) @ v) * layer.head_scale).transpose(1, 2).flatten(2))
    assert alike(model(x).double(), wanted)


def test_swapping_imports_none_of_these_libraries() -> None:
    code = (
        "import sys, fewpairs.swap as s; assert 'SwinUNETR (MONAI)' in s.registry.families(); "
        "sys.exit(any(name in sys.modules for name in ('monai', 'open_clip', 'segmentation_models_pytorch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
