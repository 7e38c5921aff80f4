"""T2T-ViT, alone and in timm's registry."""

import pytest
import timm
import torch
from einops import rearrange
from torch import nn

from fewpairs.attention import KNN, KV, Softmax
from fewpairs.errors import InputError
from fewpairs.models import load_pretrained
from fewpairs.models.encoders.t2t_vit import SoftSplit, T2TViT, TokensToToken
from fewpairs.models.encoders.token_vit import Trunk
from fewpairs.types import Grid

TINY = Trunk(width=24, depth=3, heads=3, mlp_ratio=2.0)


def tiny(attention=None, **options):
    options = {"img_size": 32, "num_classes": 5, "token_width": 8, **options}
    return T2TViT(TINY, attention or Softmax(), **options).eval()


def reference_layer(layer, x):
    """A tokens-to-token layer from its description: one head, logits by the root of the windows' width, values pass."""
    q, k, v = layer.attn.project.linear(layer.norm1(x)).chunk(3, dim=-1)
    weights = (q @ k.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(-1)
    x = v + layer.attn.out(weights @ v)
    return x + layer.mlp.fc2(nn.functional.gelu(layer.mlp.fc1(layer.norm2(x))))


def reference_positions(count, width):
    table = torch.zeros(count, width)
    for position in range(count):
        for channel in range(width):
            angle = position / 10000 ** (2 * (channel // 2) / width)
            table[position, channel] = torch.tensor(angle).sin() if channel % 2 == 0 else torch.tensor(angle).cos()
    return table


def reference_forward(model, image):
    split = nn.functional.unfold(image, 7, padding=2, stride=4).transpose(1, 2)
    for layer in model.patch_embed.layers:
        x = reference_layer(layer, split)
        side = int(x.shape[1] ** 0.5)
        tokens = rearrange(x, "b (h w) c -> b c h w", h=side)
        split = nn.functional.unfold(tokens, 3, padding=1, stride=2).transpose(1, 2)
    x = torch.cat([model.cls_token.expand(len(image), -1, -1), model.patch_embed.project(split)], dim=1)
    x = x + reference_positions(x.shape[1], x.shape[2])
    for block in model.blocks:
        q, k, v = rearrange(block.attn.project.linear(block.norm1(x)), "b n (r h d) -> r b h n d", r=3, h=TINY.heads)
        mixed = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + block.attn.out(rearrange(mixed, "b h n d -> b n (h d)"))
        x = x + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
    return model.head(model.norm(x)[:, 0])


def test_classifier_follows_the_published_description():
    model, image = tiny(), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(image), reference_forward(model, image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (50, 37)])
def test_any_size(size):
    model, image = tiny(KNN(0.5)), torch.randn(2, 3, *size)
    grid = model.patch_embed.grid(size)
    assert model(image).shape == (2, 5)
    assert model.forward_features(image).shape == (2, 1 + grid.h * grid.w, 24)
    assert model.patch_embed(image)[1] == grid


@pytest.mark.parametrize("side", [5, 7, 8, 31, 56])
def test_soft_split_counts_its_windows(side):
    split = SoftSplit(3, 2, 1)
    windows, grid = split(torch.randn(1, 2, side, side + 1))
    assert windows.shape == (1, grid.h * grid.w, 18)
    assert grid == split.grid((side, side + 1))


def test_published_grid():
    assert TokensToToken(3, 8, [Softmax(), Softmax()]).grid((224, 224)) == Grid(14, 14)


def test_keeping_every_key_is_softmax():
    dense, sparse = tiny(), tiny(KNN(1.0))
    sparse.load_state_dict(dense.state_dict())
    image = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(sparse(image), dense(image), atol=1e-5, rtol=1e-4)
    few = tiny(KNN(1))
    few.load_state_dict(dense.state_dict())
    assert not torch.allclose(few(image), dense(image), atol=1e-4)


def test_one_variant_a_stage():
    model = tiny([KNN(7), KNN(0.25), Softmax()])
    assert [layer.attn.core.variant for layer in model.patch_embed.layers] == [KNN(7), KNN(0.25)]
    assert {block.attn.core.variant for block in model.blocks} == {Softmax()}
    with pytest.raises(InputError, match="depths"):
        tiny([KNN(7), Softmax()])


def test_key_value_attention_has_no_query_rows():
    model = tiny(KV())
    assert model.patch_embed.layers[0].attn.project.linear.weight.shape == (16, 147)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)


def test_key_value_logits_are_scaled_by_the_width_of_the_windows():
    layer, x = tiny(KV()).patch_embed.layers[0].attn, torch.randn(2, 6, 147)
    k, v = layer.project.linear(x).chunk(2, dim=-1)
    expected = v + layer.out((k @ k.transpose(1, 2) * 147**-0.5).softmax(-1) @ v)
    torch.testing.assert_close(layer(x, Grid(2, 3)), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("attention", [Softmax(), KNN(0.5)])
def test_every_weight_learns(attention):
    model = tiny(attention).train()
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pooling_and_head():
    model, image = tiny(), torch.randn(2, 3, 32, 32)
    features = model.forward_features(image)
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])
    model.reset_classifier(3, "avg")
    assert model.get_classifier().out_features == 3
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features[:, 1:].mean(1))
    model.reset_classifier(0, "")
    assert model(image).shape == features.shape
    with pytest.raises(InputError, match="'token', 'avg'"):
        model.reset_classifier(3, "max")


def test_maps_of_blocks():
    model, image = tiny(), torch.randn(2, 3, 32, 48)
    final, maps = model.forward_intermediates(image)
    assert [x.shape for x in maps] == [(2, 24, 2, 3)] * 3
    torch.testing.assert_close(final, model.forward_features(image))
    (last,) = model.forward_intermediates(image, 1, norm=True, output_fmt="NLC", intermediates_only=True)
    torch.testing.assert_close(last, final[:, 1:])
    (first,) = model.forward_intermediates(image, [0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(first, maps[0])
    for wrong in ({"indices": [3]}, {"output_fmt": "NHWC"}):
        with pytest.raises(InputError):
            model.forward_intermediates(image, **wrong)
    assert model.prune_intermediate_layers([1], prune_norm=True) == [1]
    assert (len(model.blocks), model.norm(image) is image, model(image).shape) == (2, True, (2, 24))


def test_gradient_checkpointing_changes_no_gradient():
    model, image = tiny().train(), torch.randn(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(image).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=1e-6, rtol=1e-4)


def test_positions_are_no_parameters():
    model = tiny()
    assert "pos_embed" not in model.state_dict()
    assert model.no_weight_decay() == {"cls_token"}


class TestTimm:
    def create(self, **options):
        with torch.device("meta"):
            return timm.create_model("t2t_vit_t_19", **options)

    def test_arguments_reach_the_model(self):
        model = self.create(num_classes=7, in_chans=2, drop_path_rate=0.3, attention="knn100", img_size=96)
        assert model(torch.empty(2, 2, 96, 96, device="meta")).shape == (2, 7)
        assert model.blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
        assert model.blocks[0].attn.core.variant == KNN(100)

    def test_features_only(self):
        model = self.create(features_only=True, out_indices=(3, 11))
        assert model.feature_info.channels() == [448, 448]
        assert [x.shape for x in model(torch.empty(1, 3, 64, 96, device="meta"))] == [(1, 448, 4, 6)] * 2

    def test_layers_are_ordered_for_layer_wise_decay(self):
        from timm.models import group_parameters

        model = self.create()
        groups = group_parameters(model, model.group_matcher(), reverse=True)
        first, last = groups["patch_embed.project.weight"], groups["blocks.18.attn.out.weight"]
        assert first < groups["blocks.0.norm1.weight"] < last <= groups["norm.weight"]


def published_names(weights):
    """The weights of our model as the authors' code names them."""
    table = {"patch_embed.layers.0": "tokens_to_token.attention1", "patch_embed.layers.1": "tokens_to_token.attention2"}
    named = {}
    for name, value in weights.items():
        for ours, theirs in {
            **table,
            "patch_embed.project": "tokens_to_token.project",
            "attn.project.linear": "attn.qkv",
            "attn.out": "attn.proj",
        }.items():
            name = name.replace(ours, theirs)
        named[name] = value
    return {**named, "pos_embed": torch.zeros(1, 5, 24)}


def test_published_weights_load():
    source, image = tiny(), torch.randn(1, 3, 32, 32)
    target = tiny(KNN(1.0), num_classes=2)
    report = load_pretrained(target, published_names(source.state_dict()))
    assert report.layout == "T2T-ViT"
    assert set(report.new) == {"head.weight", "head.bias"}
    torch.testing.assert_close(target.forward_features(image), source.forward_features(image), atol=1e-5, rtol=1e-4)
