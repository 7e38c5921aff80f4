"""Pyramids of any hierarchical model: sizes, attention, names, refusals."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fewpairs.attention import KNN, Core, KVPos, Softmax
from fewpairs.errors import CheckpointError, InputError
from fewpairs.models import Pyramid, create_pyramid

NAMES = {
    "linglo_b0": ((32, 64, 160, 256), (4, 8, 16, 32)),
    "pvt_v2_b0": ((32, 64, 160, 256), (4, 8, 16, 32)),
    "swin_tiny_patch4_window7_224": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32)),
    "cvt_13": ((64, 192, 384), (4, 8, 16)),
    "convnext_atto": ((40, 80, 160, 320), (4, 8, 16, 32)),
}


@pytest.fixture(scope="module")
def small() -> Pyramid:
    return create_pyramid("pvt_v2_b0", in_channels=2).eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(70, 45), (224, 224)])
def test_maps_have_the_promised_channels_and_sizes(name, size):
    with torch.device("meta"):
        pyramid = create_pyramid(name).eval()
        maps = pyramid(torch.empty(2, 3, *size))
    assert (pyramid.channels, pyramid.strides) == NAMES[name]
    assert [tuple(x.shape) for x in maps] == [
        (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(*NAMES[name], strict=True)
    ]


@settings(max_examples=5)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_down_to_one_pixel(small, height, width):
    with torch.no_grad():
        maps = small(torch.randn(1, 2, height, width))
    assert [x.shape[-2:] for x in maps] == [(-(-height // s), -(-width // s)) for s in small.strides]
    assert all(x.isfinite().all() for x in maps)


@pytest.mark.parametrize("name", ["resnet18", "cvt_13"])
def test_one_small_image_trains_with_batch_norm(name):
    maps = create_pyramid(name).train()(torch.randn(1, 3, 5, 7))
    assert all(x.shape[-2:] == (-(-5 // s), -(-7 // s)) for x, s in zip(maps, NAMES[name][1], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_and_one_place_in_the_layers(name):
    with torch.device("meta"):
        pyramid = create_pyramid(name)
        sum(x.square().mean() for x in pyramid(torch.empty(2, 3, 64, 64))).backward()
    names = [n for n, _ in pyramid.named_parameters()]
    assert not [n for n, p in pyramid.named_parameters() if p.grad is None]
    inside = [n for n in names if not n.startswith("norms.")]
    prefixes = [prefix for layer in pyramid.layer_prefixes() for prefix in layer]
    assert all(any(n.startswith(prefix) for prefix in prefixes) for n in inside)
    assert pyramid.no_weight_decay() <= set(names)


def test_only_the_coarsest_levels_are_kept():
    with torch.device("meta"):
        pyramid = create_pyramid("resnet18", levels=5)
        two = create_pyramid("resnet18", levels=2)
    assert pyramid.strides == (2, 4, 8, 16, 32)
    assert two.strides == (16, 32)
    assert [x.shape[-1] for x in two.eval()(torch.empty(1, 3, 64, 64, device="meta"))] == [4, 2]


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("pvt_v2_b0", KNN(topk=0.5)),
        ("swin_tiny_patch4_window7_224", "kvpos"),
        ("cvt_13", KVPos()),
        ("cvt_13", ("knn", "softmax", "kv")),
        ("linglo_b0", "kv"),
    ],
)
def test_attention_goes_into_every_layer(name, attention):
    with torch.device("meta"):
        pyramid = create_pyramid(name, attention=attention)
    found = {type(m.variant).__name__.lower() for m in pyramid.modules() if isinstance(m, Core)}
    if isinstance(attention, tuple):
        assert found == set(attention)
    else:
        assert found == {attention if isinstance(attention, str) else type(attention).__name__.lower()}
    assert pyramid.no_weight_decay() <= {n for n, _ in pyramid.named_parameters()}


def test_plain_softmax_leaves_timms_model_as_it_is():
    with torch.device("meta"):
        assert not [m for m in create_pyramid("pvt_v2_b0", attention=Softmax()).modules() if isinstance(m, Core)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_tiny_patch16_224", {}, "has no pyramid: its maps have strides 16, 16"),
        ("so_vit_7", {}, "has no pyramid: its maps have stride 16"),
        ("resnet19", {}, "did you mean 'resnet18'"),
        ("maxvit_tiny_tf_224", {}, "only one size"),
        ("pit_ti_224", {"image_size": (64, 64)}, "does not run on 64x64 pixels .*stride 8 has 7x7 places"),
        ("resnet18", {"attention": "kv"}, "ResNet has no attention layer"),
        ("pvt_v2_b0", {"attention": "kv"}, "attention layers cannot have KV"),
        ("pvt_v2_b0", {"in_channels": 0}, "in_channels=0"),
        ("pvt_v2_b0", {"levels": 0}, "levels=0"),
        ("pvt_v2_b0", {"drop_path": 1.0}, "drop_path=1.0"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(name, options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        create_pyramid(name, **options)


def test_a_model_for_one_size_takes_no_other():
    with torch.device("meta"):
        pyramid = create_pyramid("maxvit_tiny_tf_224", image_size=(224, 224)).eval()
        assert pyramid(torch.empty(1, 3, 224, 224))[0].shape == (1, 64, 56, 56)
        with pytest.raises(InputError, match="only images of 224x224 pixels"):
            pyramid(torch.empty(1, 3, 224, 200))


def test_weights_of_the_whole_classifier_are_taken_over(tmp_path):
    classifier = timm.create_model("pvt_v2_b0", num_classes=7)
    save_file(classifier.state_dict(), tmp_path / "whole.safetensors")
    pyramid = create_pyramid("pvt_v2_b0", pretrained=tmp_path / "whole.safetensors")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.eval().forward_features(image)
        assert torch.equal(pyramid.eval()(image)[-1], expected)


def test_weights_of_another_model_are_refused(tmp_path):
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError):
        create_pyramid("pvt_v2_b0", pretrained=tmp_path / "other.safetensors")
