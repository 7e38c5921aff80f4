"""transformers' models that find and segment: with all keys kept they are the models that were there."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import transformers
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
from torch import nn
from transformers_dense import FAMILIES, tiny

from fewpairs import KNN, KeyOnly, swap_attention
from fewpairs.errors import InputError
from fewpairs.swap import describe, interface, register_transformers
from fewpairs.swap.interface import BY_NAME

families = pytest.mark.parametrize("family", FAMILIES)
pytestmark = pytest.mark.usefixtures("uncounted")


@families
@pytest.mark.parametrize("size", [0, 1])
def test_with_all_keys_kept_the_answer_is_the_originals(family: str, size: int) -> None:
    model, image = tiny(family, size)
    new = swapped(model)
    assert list(new.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        wanted = model(image)
        assert alike(new(image), wanted)
        assert not alike(swapped(model, KNN(topk=1))(image), wanted, 1e-2)


@families
def test_in_training_the_same_seed_gives_the_same_output_and_gradients(family: str) -> None:
    model, image = tiny(family, drop=0.3, implementation="eager")
    wanted, gradients = trained(copy.deepcopy(model), image, seed=3)
    got, got_gradients = trained(swapped(model), image, seed=3)
    assert alike(got, wanted)
    assert not alike(trained(copy.deepcopy(model), image, seed=4)[0], wanted, 1e-3), "nothing was dropped"
    gradients_agree(got_gradients, gradients, 2e-5)


@families
def test_copies_pickles_and_checkpoints_go_to_and_fro(family: str) -> None:
    model, image = tiny(family)
    goes_to_and_fro(model, image)


@families
@pytest.mark.parametrize("size", [0, 1])
def test_kv_is_the_original_where_queries_are_keys(family: str, size: int) -> None:
    model, image = tiny(family, size)
    before = model.state_dict()
    tie(model, [layer.name for layer in swap_attention(model, "kv", dry_run=True).swapped])
    with torch.no_grad():
        wanted = model(image)
        receipt = swap_attention(model, "kv")
        assert alike(model(image), wanted)
    after = model.state_dict()
    gone = {key.split(".")[-2] for key, now in receipt.key_map.items() if now is None}
    assert gone <= {"q_proj", "query"}
    assert gone or "qkv" in str(receipt.key_map)
    keeps_rows(before, after, receipt.key_map)


@families
def test_swapping_again_and_undoing_are_as_if_the_first_swap_had_not_been(family: str) -> None:
    model, image = tiny(family)
    swaps_again_and_undoes(model, image)


CROSSING = {
    "detr": ("encoder_attn", "queries are objects and keys are the image"),
    "maskformer": ("encoder_attn", "queries are objects and keys are the image"),
    "sam": ("cross_attn_|final_attn_", "the tokens of the prompt and the image, or the reverse"),
}


@pytest.mark.parametrize("family", CROSSING)
def test_without_queries_cross_attention_is_left_alone(family: str) -> None:
    model, _ = tiny(family)
    receipt = swap_attention(model, "kv")
    names, reason = CROSSING[family]
    assert receipt.left
    for left in receipt.left:
        assert any(name in left.name for name in names.split("|"))
        assert left.reason.endswith(reason)
    assert not any(name in layer.name for layer in receipt.swapped for name in names.split("|"))
    with pytest.raises(InputError, match=reason):
        swap_attention(tiny(family)[0], "kv", where=receipt.left[0].name)


def test_sams_decoder_that_does_not_shrink_is_not_taken_for_self_attention() -> None:
    model, _ = tiny("sam")
    for module in model.modules():
        if isinstance(module, transformers.models.sam.modeling_sam.SamAttention):
            module.config.attention_downsample_rate = 1
    left = swap_attention(model, "kv").left
    assert {layer.reason.split("and here ")[-1] for layer in left} == {
        "it cannot be told from cross-attention (attention_downsample_rate=1)"
    }


@pytest.mark.parametrize("family", ["detr", "videomae"])
def test_key_only_goes_where_scores_are_the_tokens_own(family: str) -> None:
    model, image = tiny(family)
    receipt = swap_attention(model, KeyOnly())
    assert receipt.swapped
    with torch.no_grad():
        assert model(image).isfinite().all()


@pytest.mark.parametrize(
    ("family", "reason"),
    [("eomt", "a mask for each query"), ("swinv2", "a network computes from relative positions")],
)
def test_key_only_is_refused_where_something_joins_the_scores(family: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        swap_attention(tiny(family)[0], KeyOnly())


@families
def test_attention_maps_are_given_when_asked_for(family: str) -> None:
    eager, image = tiny(family, implementation="eager")
    asked = {**eager.inputs(image), "output_attentions": True}
    names = ("attentions", "encoder_attentions", "decoder_attentions", "vision_attentions")
    with torch.no_grad():
        wanted, got = eager.model(**asked), swapped(eager).model(**asked)
    given = [name for name in names if wanted.get(name) is not None]
    assert given
    for name in given:
        maps = [each for each in wanted[name] if each is not None]
        assert maps
        for ours, theirs in zip(got[name], maps, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.fixture
def names() -> Iterator[None]:
    """Names that a test registers are forgotten after it."""
    both = transformers.AttentionInterface, transformers.AttentionMaskInterface
    kept, ours = [dict(each._global_mapping) for each in both], set(interface._REGISTERED)
    yield
    for each, before in zip(both, kept, strict=True):
        each._global_mapping.clear()
        each._global_mapping.update(before)
    interface._REGISTERED.clear()
    interface._REGISTERED.update(ours)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("family", ["eomt", "videomae"])
def test_the_attention_called_knn_does_what_the_swap_does(family: str) -> None:
    model, image = tiny(family)
    register_transformers(topk=3)
    named = copy.deepcopy(model)
    named.model.set_attn_implementation("knn")
    with torch.no_grad():
        assert alike(named(image), swapped(model, KNN(topk=3))(image))
        assert not alike(named(image), model(image), 1e-3)


def only_by_name() -> nn.Module:
    """A model of transformers that calls its attention by name and has no adapter."""
    config = transformers.VivitConfig(
        image_size=16,
        num_frames=2,
        tubelet_size=[2, 8, 8],
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
    )
    return transformers.VivitModel(config).eval()


@pytest.mark.usefixtures("names")
def test_the_line_that_a_refusal_gives_serves() -> None:
    model = only_by_name()
    reasons = {layer.reason_left_alone for layer in describe(model)}
    assert len(reasons) == 1
    assert reasons.pop().endswith(f"; k-NN attention serves it without a swap: {BY_NAME}")
    with pytest.raises(InputError, match=r"Vivit.*Attention.*model.set_attn_implementation\(\"knn\"\)"):
        swap_attention(model, "knn")
    torch.manual_seed(0)
    video = torch.randn(1, 2, 3, 16, 16)
    import fewpairs.swap

    with torch.no_grad():
        before = model(video).last_hidden_state
        exec(BY_NAME, {"fewpairs": fewpairs, "model": model})
        assert model.config._attn_implementation == "knn"
        torch.testing.assert_close(model(video).last_hidden_state, before)  # 100 of 5 keys are all of them
        register_transformers(topk=1)
        assert not torch.allclose(model(video).last_hidden_state, before, atol=1e-3)


def test_a_layer_that_computes_its_own_scores_is_not_told_that_a_name_serves() -> None:
    config = transformers.PvtConfig(
        image_size=32, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, depths=[1] * 4, mlp_ratios=[2] * 4
    )
    for layer in describe(transformers.PvtModel(config)):
        assert "in its own forward pass" in str(layer.reason_left_alone)
        assert "set_attn_implementation" not in str(layer.reason_left_alone)
