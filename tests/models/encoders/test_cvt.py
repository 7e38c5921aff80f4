"""CvT, alone and in timm's registry."""

import pytest
import timm
import torch
from einops import rearrange
from torch import nn

from fewpairs.attention import KV, KVPos, Softmax
from fewpairs.errors import InputError
from fewpairs.models.encoders import CVT_13, CvT, CvTEncoder, CvTStage

TINY = (CvTStage(8, 1, 1, 7, 4, 2), CvTStage(16, 2, 2), CvTStage(24, 3, 2))


def reference_attention(layer, x, h, w, prefix, stride):
    """The published layer, written from its description: convolutions, linear maps, scale by the whole width."""
    tokens, places = x[:, :prefix], x[:, prefix:]
    image = rearrange(places, "b (h w) c -> b c h w", h=h, w=w)
    heads = {}
    for role in "qkv":
        weight = layer.project.conv[role].weight
        y = nn.functional.conv2d(image, weight, None, 1 if role == "q" else stride, 1, 1, image.shape[1])
        y = rearrange(layer.project.norm[role](y), "b c h w -> b (h w) c")
        y = layer.project.linear[role](torch.cat([tokens, y], dim=1))
        heads[role] = rearrange(y, "b n (h d) -> b h n d", h=layer.heads)
    scores = torch.einsum("bhnd,bhmd->bhnm", heads["q"], heads["k"]) * x.shape[-1] ** -0.5
    return layer.out(rearrange(scores.softmax(-1) @ heads["v"], "b h n d -> b n (h d)"))


def reference_forward(model, image, stride):
    x = image
    for index, stage in enumerate(model.stages):
        x = stage.embed.proj(x)
        h, w = x.shape[2:]
        x = stage.embed.norm(rearrange(x, "b c h w -> b (h w) c"))
        prefix = int(index == 2)
        if prefix:
            x = torch.cat([stage.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in stage.blocks:
            x = x + reference_attention(block.attn, block.norm1(x), h, w, prefix, stride)
            hidden = block.mlp.fc1(block.norm2(x))
            x = x + block.mlp.fc2(hidden * torch.sigmoid(1.702 * hidden))
        if not prefix:
            x = rearrange(x, "b (h w) c -> b c h w", h=h, w=w)
    return model.head(model.norm(x[:, 0]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_classifier_follows_the_published_description(stride, size):
    torch.manual_seed(0)
    model = CvT(TINY, Softmax(scale_by="width"), stride_kv=stride, num_classes=5)
    model.train()(torch.randn(4, 3, 64, 64))
    model.eval()
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(model(image), reference_forward(model, image, stride), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", [KV(), KVPos()])
def test_strided_keys_and_key_value_attention_do_not_meet(attention):
    with pytest.raises(InputError, match="stride_kv"):
        CvT(TINY, attention)
    assert CvT(TINY, attention, stride_kv=1, num_classes=5)(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_stochastic_depth_acts_in_the_last_stage_only():
    model = CvT(CVT_13[:2] + TINY[2:], Softmax(), drop_path_rate=0.2)
    drops = [[getattr(block.drop_path, "drop_prob", 0.0) for block in stage.blocks] for stage in model.stages]
    assert drops[:2] == [[0.0], [0.0, 0.0]]
    assert drops[2] == pytest.approx([0.0, 0.2])


def test_encoder_gives_every_stage():
    encoder = CvTEncoder(TINY, KV(), in_channels=2)
    maps = encoder(torch.randn(2, 2, 32, 48))
    assert [x.shape for x in maps] == [(2, 8, 8, 12), (2, 16, 4, 6), (2, 24, 2, 3)]
    assert encoder.strides == (4, 8, 16)
    assert not [name for name, _ in encoder.named_parameters() if "cls_token" in name or name.startswith("cvt.norm")]


class TestTimm:
    """What timm's users expect of a registered model."""

    def create(self, **options):
        with torch.device("meta"):
            return timm.create_model("cvt_13", **options)

    def test_is_listed(self):
        assert {"cvt_13", "cvt_21"} <= set(timm.list_models("cvt*"))

    def test_arguments_reach_the_model(self):
        model = self.create(num_classes=7, in_chans=5, drop_path_rate=0.3, attention="kv", stride_kv=1)
        assert model(torch.empty(2, 5, 64, 64, device="meta")).shape == (2, 7)
        assert model.stages[2].blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
        assert model.stages[0].blocks[0].attn.variant == KV()
        assert self.create().stages[0].blocks[0].attn.variant == Softmax(scale_by="width")

    def test_features_only(self):
        model = self.create(features_only=True)
        assert model.feature_info.channels() == [64, 192, 384]
        assert model.feature_info.reduction() == [4, 8, 16]
        maps = model(torch.empty(1, 3, 64, 96, device="meta"))
        assert [x.shape for x in maps] == [(1, 64, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6)]
        two = self.create(features_only=True, out_indices=(0, 1))
        assert len(two.model.stages) == 2
        assert [x.shape[1] for x in two(torch.empty(1, 3, 64, 64, device="meta"))] == [64, 192]

    def test_head_and_features(self):
        model = self.create()
        features = model.forward_features(torch.empty(2, 3, 64, 64, device="meta"))
        assert features.shape == (2, 17, 384)
        assert model.forward_head(features, pre_logits=True).shape == (2, 384)
        model.reset_classifier(3, "avg")
        assert model.forward_head(features).shape == (2, 3)
        assert model.get_classifier().out_features == 3
        model.reset_classifier(0)
        assert model(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 384)

    def test_groups_and_decay(self):
        from timm.models import group_parameters

        model = self.create()
        assert model.no_weight_decay() == {"stages.2.cls_token"}
        groups = group_parameters(model, model.group_matcher(), reverse=True)
        assert groups["stages.0.embed.proj.weight"] < groups["stages.1.blocks.1.attn.out.weight"]
        assert groups["stages.1.blocks.1.attn.out.weight"] < groups["stages.2.blocks.9.mlp.fc1.weight"]

    def test_no_token_means_no_token_pooling(self):
        with pytest.raises(InputError, match="allowed: 'avg'"):
            CvT(TINY, Softmax(), class_token=False, global_pool="token")
        assert CvT(TINY, Softmax(), class_token=False, num_classes=2)(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    model = CvT(TINY, Softmax(), num_classes=2, drop_path_rate=0.0)
    image = torch.randn(2, 3, 32, 32)
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model(image).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=1e-6, rtol=1e-4)
