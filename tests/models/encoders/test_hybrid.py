"""The convolutional stem before the transformer."""

import timm
import torch

from fewpairs.attention import Softmax
from fewpairs.models import create_segmenter, load_pretrained
from fewpairs.models.encoders import R50, build_stem


def test_maps_and_strides_of_the_published_stem():
    with torch.device("meta"):
        encoder = create_segmenter("conv_setr_cup_r50_vit_b16", classes=3).encoder
        maps = encoder(torch.empty(1, 3, 64, 96))
    assert encoder.channels == (64, 256, 512, 768)
    assert encoder.strides == (2, 4, 8, 16)
    shapes = [(1, 64, 32, 48), (1, 256, 16, 24), (1, 512, 8, 12), (1, 768, 4, 6)]
    assert [x.shape for x in maps] == shapes


def test_stem_is_timms():
    """The same tensors by name and shape as the stem of timm's R50 + ViT-B/16."""
    with torch.device("meta"):
        ours = build_stem(R50, 3).state_dict()
        theirs = timm.create_model("vit_base_r50_s16_384").patch_embed.backbone.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_timms_hybrid_weights_find_their_place():
    """Names only, on the meta device, where a copy costs nothing."""
    with torch.device("meta"):
        theirs = timm.create_model("vit_base_r50_s16_384").state_dict()
        model = create_segmenter("conv_setr_cup_r50_vit_b16", attention=Softmax(), classes=2, in_channels=1)
        report = load_pretrained(model, theirs)
    assert report.converted["encoder.stem.stem.conv.weight"] == "3 input channels folded to 1"
    assert report.converted["encoder.transformer.vit.pos_embed"] == "positions resampled from 24x24 to 16x16"
    assert set(report.dropped) == {"cls_token", "norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert all(name.startswith("decoder.") for name in report.new)
