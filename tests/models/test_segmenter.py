"""The assembled models: any size in and out, gradients, groups of parameters."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewpairs.attention import KV, VARIANTS, KVPos, MultiHead, Softmax
from fewpairs.errors import InputError
from fewpairs.models import MODELS, create_segmenter, list_models
from fewpairs.models.padding import pad_to_multiple, resize_and_crop

SMALL = list_models("*_small")
LARGE = [name for name in MODELS if name.endswith(("b16", "cvt13"))]


@pytest.mark.parametrize(("name", "attention"), list(zip(LARGE, itertools.cycle(VARIANTS), strict=False)))
def test_large_models_give_logits_of_the_images_size(name, attention):
    with torch.device("meta"):
        model = create_segmenter(name, attention=VARIANTS[attention](), classes=2, in_channels=1, auxiliary=True)
        result = model(torch.empty(2, 1, 50, 39), auxiliary=True)
    assert result["out"].shape == (2, 2, 50, 39)
    assert len(result["aux"]) >= 2
    assert all(aux.shape == (2, 2, 50, 39) for aux in result["aux"])
    assert {type(layer.variant) for layer in model.modules() if isinstance(layer, MultiHead)} == {VARIANTS[attention]}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("attention", VARIANTS)
def test_every_parameter_of_a_small_model_gets_a_gradient(name, attention):
    torch.manual_seed(0)
    model = create_segmenter(name, attention=VARIANTS[attention](), classes=2, image_size=(32, 24), auxiliary=True)
    result = model(torch.randn(2, 3, 33, 20), auxiliary=True)
    sum(logits.square().mean() for logits in (result["out"], *result["aux"])).backward()
    assert result["out"].shape == (2, 2, 33, 20)
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dead


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(SMALL),
    attention=st.sampled_from(sorted(VARIANTS)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.integers(1, 5),
)
def test_any_size_in_the_same_out(name, attention, height, width, channels):
    model = create_segmenter(name, attention=VARIANTS[attention](), classes=4, in_channels=channels).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, channels, height, width))
    assert logits.shape == (1, 4, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_output_is_aligned_with_the_input(name):
    """Without mixing, a bright patch changes the logits around itself: nothing is transposed or mirrored on the way."""
    model = create_segmenter(name, classes=1).eval()
    for parameter, value in model.named_parameters():
        if parameter.endswith(("attn.attention.out.weight", "attn.out.weight", "mlp.fc2.weight", "pos_embed")):
            torch.nn.init.zeros_(value)
    image = torch.randn(1, 3, 64, 96) * 0.1
    bright = image.clone()
    bright[..., 8:16, 72:80] += 3.0
    with torch.no_grad():
        change = (model(bright) - model(image)).square()[0, 0]
    row, column = divmod(change.argmax().item(), 96)
    assert abs(row - 11.5) < 20
    assert abs(column - 75.5) < 20


def test_padding_does_not_change_an_image_of_whole_patches():
    image = torch.randn(1, 2, 16, 24)
    assert pad_to_multiple(image, 8) is image
    padded = pad_to_multiple(image[..., :13, :17], 8)
    assert padded.shape == (1, 2, 16, 24)
    assert torch.equal(padded[..., 13:, :17], image[..., 12:13, :17].expand(1, 2, 3, 17))
    logits = torch.randn(1, 2, 16, 24)
    assert torch.equal(resize_and_crop(logits, (13, 17), 8), logits[..., :13, :17])


@pytest.mark.parametrize("shape", [(1, 3, 8), (1, 2, 8, 8), (1, 3, 0, 8)])
def test_an_image_of_another_shape_is_refused(shape):
    model = create_segmenter("setr_naive_small", classes=1)
    with pytest.raises(InputError, match="c=3 channels"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("name", [*SMALL, "conv_setr_cup_r50_vit_b16"])
def test_layer_groups_hold_every_parameter_once_and_in_order(name):
    with torch.device("meta"):
        model = create_segmenter(name, attention=KVPos(), classes=2, auxiliary=True)
    groups = model.layer_groups()
    names = [parameter for group in groups for parameter in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(groups)
    assert all(name.startswith(("decoder.", "aux_heads.")) for name in groups[-1])
    assert not any(name.startswith(("decoder.", "aux_heads.")) for group in groups[:-1] for name in group)
    blocks = sum(isinstance(module, MultiHead) for module in model.modules())
    assert len(groups) >= blocks + 2
    assert model.no_weight_decay() <= set(names)


def test_weight_decay_spares_the_position_table():
    model = create_segmenter("conv_setr_pup_small", classes=2)
    assert model.no_weight_decay() == {"encoder.transformer.vit.pos_embed"}


def test_a_copy_works_on_its_own():
    """An averaged copy of the weights must not share the grid of the model that it was copied from."""
    model = create_segmenter("setr_naive_small", classes=1).eval()
    twin = copy.deepcopy(model)
    wide, tall = torch.randn(1, 3, 16, 64), torch.randn(1, 3, 48, 8)
    expected = model(wide)
    twin(tall)
    assert torch.equal(twin(wide), expected)
    place, copied = (m.encoder.vit.blocks[0].attn.place for m in (model, twin))
    assert place is not copied
    twin(tall)
    assert (place.grid.h, place.grid.w) == (2, 8)
    assert (copied.grid.h, copied.grid.w) == (6, 1)


def test_group_norm_makes_small_models_independent_of_the_batch():
    torch.manual_seed(0)
    model = create_segmenter("setr_mla_small", classes=2).train()
    images = torch.randn(3, 3, 24, 24)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), atol=1e-5, rtol=1e-5)


def test_mistakes_in_a_wish_are_told():
    with pytest.raises(InputError, match="did you mean 'setr_pup_small'"):
        create_segmenter("setr_pub_small", classes=1)
    with pytest.raises(InputError, match="classes=0"):
        create_segmenter("setr_pup_small", classes=0)
    with pytest.raises(InputError, match="drop_path"):
        create_segmenter("setr_pup_small", classes=1, drop_path=1.0)
    with pytest.raises(InputError, match="image width=0"):
        create_segmenter("setr_pup_small", classes=1, image_size=(8, 0))


def test_softmax_and_key_value_models_differ_in_nothing_but_queries():
    for name in SMALL:
        qkv, kv = (create_segmenter(name, attention=attention, classes=2) for attention in (Softmax(), KV()))
        ours, theirs = qkv.state_dict(), kv.state_dict()
        assert set(theirs) <= set(ours)
        assert all(".q." in key for key in set(ours) - set(theirs))
        assert all("project.linear" in key for key in theirs if ours[key].shape != theirs[key].shape)


def test_training_mode_without_auxiliary_heads_gives_an_empty_list():
    model = create_segmenter("setr_naive_small", attention=Softmax(), classes=1)
    assert model(torch.zeros(1, 3, 8, 8), auxiliary=True)["aux"] == []
