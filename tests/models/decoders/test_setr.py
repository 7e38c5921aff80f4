"""SETR's decoders and the auxiliary head."""

import pytest
import torch
import torch.nn.functional as F

from fewpairs.errors import InputError
from fewpairs.models.decoders import AuxiliaryHead, MLADecoder, NaiveDecoder, PUPDecoder
from fewpairs.models.decoders.layers import normalisation


def maps(count=4, channels=16, side=4):
    torch.manual_seed(1)
    return tuple(torch.randn(2, channels, side, side + 1) for _ in range(count))


def test_naive_stays_at_the_encoders_stride():
    assert NaiveDecoder((16,), (16,), 3, width=8)(maps(1)).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(("stride", "convs"), [(16, 4), (8, 3), (4, 2), (2, 1)])
def test_pup_reaches_half_the_image(stride, convs):
    decoder = PUPDecoder((16,), (stride,), 3, width=8)
    assert len(decoder.convs) == convs
    scale = stride // 2
    assert decoder(maps(1)).shape == (2, 3, 4 * scale, 5 * scale)


def test_mla_adds_every_deeper_level():
    decoder = MLADecoder((16,) * 4, (16,) * 4, 3, width=8, head_width=4).eval()
    features = maps()
    out = decoder(features)
    assert out.shape == (2, 3, 16, 20)
    reduced = [reduce(norm(x)) for reduce, norm, x in zip(decoder.reduce, decoder.norms, features, strict=True)]
    sums = [sum(reduced[level:]) for level in range(4)]
    wide = [
        F.interpolate(head(smooth(x)), size=(16, 20), mode="bilinear", align_corners=True)
        for head, smooth, x in zip(decoder.heads, decoder.smooth, sums, strict=True)
    ]
    torch.testing.assert_close(out, decoder.classify(torch.cat(wide, dim=1)))


def test_mla_needs_maps_of_one_stride():
    with pytest.raises(InputError, match="4 maps of one stride"):
        MLADecoder((8, 8, 8, 8), (4, 8, 16, 16), 3)


def test_auxiliary_head_equals_the_published_order():
    """Upsampling before the 1x1 convolution, as published, gives the same."""
    head = AuxiliaryHead(1, 16, 3, width=8).eval()
    features = maps(2)
    published = F.interpolate(head.conv(head.norm(features[1])), scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(features), head.classify(published))


@pytest.mark.parametrize("stride", [1, 3, 12])
def test_strides_that_cannot_be_doubled_are_refused(stride):
    with pytest.raises(InputError, match="power of two"):
        PUPDecoder((16,), (stride,), 3)


def test_norm_must_be_known():
    with pytest.raises(InputError, match="'batch', 'group'"):
        NaiveDecoder((16,), (16,), 3, norm="layer")


def test_features_must_be_finest_first():
    with pytest.raises(InputError, match="finest first"):
        NaiveDecoder((16, 16), (16, 8), 3)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (4, 1), (16, 4), (20, 5), (64, 16), (256, 32), (513, 1)])
def test_groups_of_four_channels(channels, groups):
    norm = normalisation("group", channels)
    assert norm.num_groups == groups
    assert norm(torch.randn(2, channels, 3, 3)).shape == (2, channels, 3, 3)
