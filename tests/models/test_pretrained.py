"""Foreign weights into our models, numerically."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models import adapt_input_conv
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from fewpairs.attention import KV, KVPos, MultiHead, Softmax
from fewpairs.errors import CheckpointError
from fewpairs.models import create_segmenter, load_pretrained
from fewpairs.models.encoders import CvT, CvTEncoder, CvTStage, ViTConfig, ViTEncoder, build_vit

TINY = ViTConfig(width=24, depth=2, heads=3, patch=8)
STAGES = (CvTStage(8, 1, 1, 7, 4, 2), CvTStage(16, 2, 1), CvTStage(24, 3, 2))
SMALL_IN_TIMM = {"patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4, "img_size": 64}


def foreign(kind=VisionTransformer, **options):
    return kind(**{"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, **options})


def tie_queries_to_keys(weights):
    """Give the query rows of every `qkv` the values of the key rows."""
    for name, value in weights.items():
        if ".attn.qkv." in name:
            value[: len(value) // 3] = value[len(value) // 3 : 2 * len(value) // 3]


def test_with_queries_tied_to_keys_the_key_value_model_gives_the_same():
    theirs = foreign().eval()
    weights = theirs.state_dict()
    tie_queries_to_keys(weights)
    image = torch.randn(2, 3, 32, 32)
    tokens = ViTConfig(width=24, depth=2, heads=3, patch=8, class_token=True)
    expected = theirs.forward_features(image)
    for attention in (Softmax(), KV(), KVPos()):
        ours = build_vit(tokens, attention, image_size=(32, 32)).eval()
        report = load_pretrained(ours, weights)
        torch.testing.assert_close(ours.forward_features(image), expected, atol=1e-5, rtol=1e-4)
        assert len(report.converted) == (0 if attention == Softmax() else 4)


def test_without_the_tie_queries_matter():
    theirs = foreign().eval()
    ours = build_vit(ViTConfig(24, 2, 3, 8, class_token=True), KV(), image_size=(32, 32)).eval()
    load_pretrained(ours, theirs.state_dict())
    image = torch.randn(1, 3, 32, 32)
    assert not torch.allclose(ours.forward_features(image), theirs.forward_features(image), atol=1e-3)
    rows = theirs.blocks[1].attn.qkv.weight[24:]
    assert torch.equal(ours.blocks[1].attn.attention.project.linear.weight, rows)


@pytest.mark.parametrize("kind", [VisionTransformer, VisionTransformerDistilled])
def test_tokens_are_left_out_with_their_places(kind):
    theirs = foreign(kind, num_classes=4)
    prefix = theirs.num_prefix_tokens
    torch.nn.init.normal_(theirs.pos_embed)
    ours = build_vit(TINY, KV(), image_size=(32, 32))
    report = load_pretrained(ours, theirs.state_dict())
    assert torch.equal(ours.pos_embed, theirs.pos_embed[:, prefix:])
    assert set(report.dropped) >= {"cls_token", "head.weight", "head.bias"}
    assert ("dist_token" in report.dropped) == (prefix == 2)
    assert not report.new


def test_a_distilled_checkpoint_keeps_the_class_token_where_it_is_wanted():
    theirs = foreign(VisionTransformerDistilled)
    torch.nn.init.normal_(theirs.pos_embed)
    ours = build_vit(ViTConfig(24, 2, 3, 8, class_token=True), Softmax(), image_size=(32, 32))
    load_pretrained(ours, theirs.state_dict())
    assert torch.equal(ours.cls_token, theirs.cls_token)
    assert torch.equal(ours.pos_embed, torch.cat([theirs.pos_embed[:, :1], theirs.pos_embed[:, 2:]], dim=1))


def test_positions_are_resampled_to_the_models_grid():
    theirs = foreign(class_token=False, global_pool="avg", fc_norm=False, dynamic_img_size=True)
    torch.nn.init.normal_(theirs.pos_embed)
    ours = build_vit(TINY, Softmax(), image_size=(16, 48))
    report = load_pretrained(ours, theirs.state_dict())
    assert ours.pos_embed.shape == (1, 12, 24)
    assert report.converted["pos_embed"] == "positions resampled from 4x4 to 2x6"
    theirs.set_input_size((16, 48))
    torch.testing.assert_close(ours.pos_embed, theirs.pos_embed)


@given(channels=st.integers(1, 7))
def test_first_convolution_is_folded_as_timm_does(channels):
    theirs = foreign(class_token=False, global_pool="avg")
    ours = build_vit(TINY, KV(), image_size=(32, 32), in_channels=channels)
    load_pretrained(ours, theirs.state_dict())
    expected = adapt_input_conv(channels, theirs.patch_embed.proj.weight.detach())
    assert torch.equal(ours.patch_embed.proj.weight, expected)


def test_into_a_segmenter_only_the_decoder_is_new():
    theirs = VisionTransformer(**SMALL_IN_TIMM)
    model = create_segmenter("setr_pup_small", attention=KVPos(), classes=2, in_channels=1, auxiliary=True)
    report = load_pretrained(model, theirs.state_dict())
    assert all(name.startswith(("decoder.", "aux_heads.")) or ".core." in name for name in report.new)
    assert sum(".core." in name for name in report.new) == 6
    assert set(report.matched) | set(report.converted) | set(report.new) == set(model.state_dict())
    assert "norm.weight" in report.dropped
    text = str(report)
    assert re.search(r"read as timm ViT: \d+ tensors as they are, 13 converted", text)
    assert "query rows dropped" in text
    assert "3 input channels folded to 1" in text


def microsoft_names(weights):
    """Our CvT's names turned into microsoft/CvT's, written independently of the converter."""
    renamed = {}
    for name, value in weights.items():
        parts = name.split(".")
        if parts[0] != "stages":
            renamed[name] = value
            continue
        head, rest = f"stage{parts[1]}", parts[2:]
        if rest[0] == "embed":
            rest = ["patch_embed", *rest[1:]]
        elif len(rest) > 3 and rest[2] == "attn":
            if rest[3] == "out":
                rest = [*rest[:3], "proj", *rest[4:]]
            elif rest[4] == "linear":
                rest = [*rest[:3], f"proj_{rest[5]}", *rest[6:]]
            else:
                part = "conv" if rest[4] == "conv" else "bn"
                rest = [*rest[:3], f"conv_proj_{rest[5]}", part, *rest[6:]]
        renamed[".".join([head, *rest])] = value
    return renamed


def published_cvt():
    model = CvT(STAGES, Softmax(scale_by="width"), num_classes=5)
    model.train()(torch.randn(2, 3, 64, 64))
    return model.eval()


def test_microsofts_names():
    source = published_cvt()
    weights = microsoft_names(source.state_dict())
    assert "stage0.blocks.0.attn.conv_proj_q.conv.weight" in weights
    assert "stage2.blocks.1.attn.conv_proj_k.bn.running_var" in weights
    assert "stage1.patch_embed.proj.weight" in weights
    assert "stage2.cls_token" in weights
    ours = CvT(STAGES, Softmax(scale_by="width"), num_classes=5).eval()
    report = load_pretrained(ours, {"model": weights})
    assert report.layout == "Microsoft CvT"
    assert not report.new
    assert not report.dropped
    assert not report.notes
    image = torch.randn(2, 3, 48, 64)
    assert torch.equal(ours(image), source(image))


@pytest.mark.parametrize("rename", [microsoft_names, dict])
def test_cvt_into_key_value_attention(rename):
    source = published_cvt()
    layers = [m for m in source.modules() if isinstance(m, MultiHead)]
    with torch.no_grad():
        for layer in layers:
            for part in (layer.project.conv, layer.project.norm, layer.project.linear):
                part["q"].load_state_dict(part["k"].state_dict())
    weights = rename(source.state_dict())
    kv = CvTEncoder(STAGES, KV(scale_by="width"), in_channels=1).eval()
    qkv = CvTEncoder(STAGES, Softmax(scale_by="width"), in_channels=1).eval()
    report = load_pretrained(kv, weights)
    load_pretrained(qkv, weights)
    assert not report.new
    assert any(name.endswith("cls_token") for name in report.dropped)
    assert sum("query weights" in why for why in report.dropped.values()) == 8 * len(layers)
    image = torch.randn(1, 1, 48, 32)
    for ours, theirs in zip(kv(image), qkv(image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_another_logit_scale_is_noted():
    report = load_pretrained(CvTEncoder(STAGES, Softmax()), published_cvt().state_dict())
    assert "scale_by='width'" in str(report)


@pytest.mark.parametrize("name", ["setr_mla_small", "conv_setr_cup_small", "cvt_setr_pup_small"])
def test_our_own_weights_come_back(name):
    source = create_segmenter(name, classes=2, auxiliary=True).eval()
    same = create_segmenter(name, classes=2, auxiliary=True).eval()
    report = load_pretrained(same, source.state_dict())
    assert set(report.matched) == set(source.state_dict())
    image = torch.randn(1, 3, 40, 24)
    assert torch.equal(same(image), source(image))


@pytest.mark.parametrize("name", ["setr_mla_small", "cvt_setr_pup_small"])
def test_our_own_softmax_weights_into_key_value_attention(name):
    source = create_segmenter(name, classes=2, auxiliary=True)
    kv = create_segmenter(name, attention=KV(), classes=5)
    report = load_pretrained(kv, source.state_dict())
    assert {name for name in report.new if not name.startswith("decoder.classify")} == set()
    assert "2 classes, where the model has 5" in str(report)
    with pytest.raises(CheckpointError, match=r"decoder\.classify\.weight is"):
        load_pretrained(kv, source.state_dict(), strict_shapes=True)


def different(**changes):
    return foreign(**{"num_classes": 0, **changes}).state_dict()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (lambda: different(depth=3), r"blocks\.2\.norm1\.weight \[24\] is not in the model"),
        (lambda: different(depth=1), r"blocks\.1\.norm1\.weight is not in the checkpoint"),
        (lambda: different(embed_dim=36), r"blocks\.0\.norm1\.weight is \[36\], and \[24\] in the model"),
        (lambda: different(patch_size=4), r"patch_embed\.proj\.weight is \[24, 3, 4, 4\]"),
        (lambda: different(init_values=1e-5), r"ls1\.gamma \[24\] is not in the model"),
        (lambda: create_segmenter("setr_naive_small", classes=1).state_dict(), "keys differ"),
        (lambda: published_cvt().state_dict(), "the model contains no CvT"),
        (lambda: {"conv1.weight": torch.zeros(1)}, "names are not those of"),
        (dict, "names are not those of"),
    ],
)
def test_weights_of_another_model_change_nothing(weights, says):
    model = ViTEncoder(build_vit(TINY, Softmax(), image_size=(32, 32)), (0, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        load_pretrained(model, weights())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_key_value_weights_cannot_fill_queries():
    kv = build_vit(TINY, KV(), image_size=(32, 32))
    with pytest.raises(CheckpointError, match="has no query rows to give"):
        load_pretrained(build_vit(TINY, Softmax(), image_size=(32, 32)), kv.state_dict())
