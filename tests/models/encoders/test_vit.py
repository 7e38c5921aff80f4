"""The timm vision transformer with our attention inside."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from fewpairs.attention import KV, Softmax
from fewpairs.errors import InputError
from fewpairs.models import load_pretrained
from fewpairs.models.encoders import ViTConfig, ViTEncoder, build_vit

TINY = ViTConfig(width=24, depth=3, heads=3, patch=8)
TINY_CLASS = ViTConfig(width=24, depth=3, heads=3, patch=8, class_token=True)


def timm_vit(**options):
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5, dynamic_img_size=True, **options
    )


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
def test_features_equal_timms_own(class_token, size):
    torch.manual_seed(0)
    theirs = timm_vit(class_token=class_token, global_pool="token" if class_token else "avg", fc_norm=False).eval()
    torch.nn.init.normal_(theirs.pos_embed)
    ours = build_vit(TINY_CLASS if class_token else TINY, Softmax(), image_size=(32, 32), classes=5).eval()
    load_pretrained(ours, theirs.state_dict())
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=1e-4)
    expected = theirs.forward_intermediates(image, indices=[0, 2], intermediates_only=True)
    taps = ViTEncoder(ours, (0, 2))(image)
    assert [tap.shape for tap in taps] == [(2, 24, size[0] // 8, size[1] // 8)] * 2
    for tap, reference in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, reference, atol=1e-5, rtol=1e-4)


def test_blocks_after_the_last_tap_go():
    encoder = ViTEncoder(build_vit(TINY, KV(), image_size=(16, 16)), (0, 1))
    assert len(encoder.vit.blocks) == 2
    assert not [name for name, _ in encoder.named_parameters() if name.startswith(("vit.norm", "vit.head", "vit.fc"))]
    assert encoder.channels == (24, 24)
    assert encoder.strides == (8, 8)


@pytest.mark.parametrize("taps", [(), (1, 0), (0, 3), (-1, 2), (1, 1)])
def test_taps_must_be_rising_blocks(taps):
    with pytest.raises(InputError, match="rising block indices"):
        ViTEncoder(build_vit(TINY, KV(), image_size=(16, 16)), taps)


def test_a_mask_is_refused_and_not_ignored():
    vit = build_vit(TINY, KV(), image_size=(16, 16))
    image = torch.zeros(1, 3, 16, 16)
    block = vit.blocks[0].attn
    vit(image)
    with pytest.raises(InputError, match="cannot apply a mask"):
        block(torch.zeros(1, 4, 24), attn_mask=torch.ones(4, 4))
    with pytest.raises(InputError, match="cannot apply a mask"):
        block(torch.zeros(1, 4, 24), is_causal=True)


def test_tokens_that_do_not_fit_the_grid_are_refused():
    vit = build_vit(TINY, KV(), image_size=(16, 16))
    vit(torch.zeros(1, 3, 16, 24))
    with pytest.raises(InputError, match="2 x 3 patches"):
        vit.blocks[0](torch.zeros(1, 5, 24))


def test_table_is_rounded_up_to_whole_patches():
    assert build_vit(TINY, KV(), image_size=(17, 30)).pos_embed.shape == (1, 12, 24)


def test_gradient_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    vit = build_vit(TINY, KV(), image_size=(16, 16))
    image = torch.randn(1, 3, 16, 24)
    gradients = []
    for enable in (False, True):
        vit.zero_grad()
        vit.set_grad_checkpointing(enable)
        vit(image).square().mean().backward()
        gradients.append([p.grad.clone() for p in vit.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
