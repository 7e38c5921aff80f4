"""Semantic FPN and UperNet: sizes, parameters, gradients, whole segmenters."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fewpairs.attention import KNN, Core
from fewpairs.errors import InputError
from fewpairs.models import create_segmenter, load_segmenter
from fewpairs.models.decoders import SemanticFPN, UperNet
from fewpairs.models.decoders.upernet import PyramidPooling

CHANNELS, STRIDES = (8, 16, 24, 32), (4, 8, 16, 32)


def maps(height, width, channels=CHANNELS, strides=STRIDES, batch=2):
    return [
        torch.randn(batch, c, -(-height // s), -(-width // s), requires_grad=True)
        for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.parametrize("decoder", [SemanticFPN, UperNet])
@settings(max_examples=8)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_logits_have_the_size_of_the_finest_map(decoder, height, width):
    head = decoder(CHANNELS, STRIDES, 5, width=16).eval()
    with torch.no_grad():
        assert head(maps(height, width)).shape == (2, 5, -(-height // 4), -(-width // 4))


@pytest.mark.parametrize("decoder", [SemanticFPN, UperNet])
@pytest.mark.parametrize("levels", [2, 3])
def test_every_map_and_parameter_matters_even_for_one_image(decoder, levels):
    features = maps(64, 96, CHANNELS[:levels], STRIDES[:levels], batch=1)
    head = decoder(CHANNELS[:levels], STRIDES[:levels], 3, width=16, dropout=0.0).train()
    head(features).square().mean().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in features)
    assert not [n for n, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_semantic_fpn_has_as_many_stages_as_doublings():
    head = SemanticFPN(CHANNELS, STRIDES, 3)
    assert [sum(isinstance(m, torch.nn.Conv2d) for m in branch.modules()) for branch in head.branches] == [1, 1, 2, 3]
    assert [sum(isinstance(m, torch.nn.Upsample) for m in branch.modules()) for branch in head.branches] == [0, 1, 2, 3]
    lateral = sum(c * 256 + 256 for c in CHANNELS) + 4 * (9 * 256 * 256 + 256)
    stages = 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128
    assert sum(p.numel() for p in head.parameters()) == lateral + stages + 128 * 3 + 3


def test_upernet_has_the_parameters_of_its_definition():
    head, w = UperNet(CHANNELS, STRIDES, 3, width=32), 32
    pool = 4 * (32 * w + 2 * w) + 9 * (32 + 4 * w) * w + 2 * w
    levels = sum(c * w + 2 * w for c in CHANNELS[:-1]) + 3 * (9 * w * w + 2 * w)
    assert sum(p.numel() for p in head.parameters()) == pool + levels + 9 * 4 * w * w + 2 * w + 3 * w + 3


def test_pooling_sees_the_whole_map():
    pool = PyramidPooling(4, 8).eval()
    x = torch.zeros(1, 4, 12, 12)
    far = x.clone()
    far[..., 0, 0] = 5.0
    with torch.no_grad():
        assert not torch.equal(pool(x)[..., -1, -1], pool(far)[..., -1, -1])


@pytest.mark.parametrize("decoder", [SemanticFPN, UperNet])
def test_maps_that_do_not_fit_are_refused(decoder):
    with pytest.raises(InputError, match="finest first"):
        decoder((8, 16), (8, 4), 3)
    if decoder is SemanticFPN:
        with pytest.raises(InputError, match="power of two"):
            decoder((8, 16), (4, 12), 3)


@pytest.mark.parametrize("name", ["semantic_fpn", "upernet", "semantic_fpn_narrow"])
@pytest.mark.parametrize("encoder", ["pvt_v2_b0", "linglo_b0", "cvt_13", "swin_tiny_patch4_window7_224", None])
def test_segmenters_of_any_encoder_give_logits_of_the_images_size(name, encoder):
    with torch.device("meta"):
        model = create_segmenter(name, classes=7, encoder=encoder, auxiliary=True, in_channels=1)
        result = model(torch.empty(2, 1, 50, 75), auxiliary=True)
    assert result["out"].shape == (2, 7, 50, 75)
    assert [aux.shape for aux in result["aux"]] == [(2, 7, 50, 75)]
    names = [parameter for group in model.layer_groups() for parameter in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_attention_reaches_the_encoder_and_none_leaves_it_as_it_is():
    with torch.device("meta"):
        plain = create_segmenter("semantic_fpn", classes=2, encoder="pvt_v2_b0")
        sparse = create_segmenter("semantic_fpn", classes=2, encoder="pvt_v2_b0", attention=KNN(topk=0.5))
    assert not [m for m in plain.modules() if isinstance(m, Core)]
    assert {m.variant for m in sparse.modules() if isinstance(m, Core)} == {KNN(topk=0.5)}


def test_an_image_smaller_than_the_stride_trains():
    model = create_segmenter("semantic_fpn_narrow", classes=3).train()
    loss = model(torch.randn(1, 3, 5, 9)).square().mean()
    loss.backward()
    assert loss.isfinite()


def test_an_encoder_for_a_model_that_has_its_own_is_refused():
    with pytest.raises(InputError, match=r"setr_pup_small has a fixed encoder.*semantic_fpn"):
        create_segmenter("setr_pup_small", classes=2, encoder="pvt_v2_b0")


@pytest.mark.parametrize("encoder", ["pvt_v2_b0", "linglo_b0"])
def test_a_whole_classifiers_weights_fill_the_encoder_and_a_segmenters_all(tmp_path, encoder):
    file, whole = tmp_path / "classifier.safetensors", tmp_path / "segmenter.safetensors"
    classifier = timm.create_model(encoder, num_classes=11)
    save_file(classifier.state_dict(), file)
    model = create_segmenter("semantic_fpn_narrow", classes=2, encoder=encoder, pretrained=file)
    theirs, ours = classifier.state_dict(), model.encoder.body.model.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    save_file(model.state_dict(), whole)
    other = create_segmenter("semantic_fpn_narrow", classes=2, encoder=encoder)
    report = load_segmenter(other, whole)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    assert not report.new
