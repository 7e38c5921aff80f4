"""TransUNet's decoder."""

import pytest
import torch

from fewpairs.errors import InputError
from fewpairs.models.decoders import CUPDecoder


def test_cup_uses_each_skip_and_reaches_full_size():
    torch.manual_seed(0)
    channels, strides = (4, 6, 8, 10), (2, 4, 8, 16)
    decoder = CUPDecoder(channels, strides, 2, widths=(8, 8, 8, 4), hidden=12)
    assert decoder.skips == [2, 1, 0, None]
    features = [torch.randn(2, c, 32 // s, 48 // s, requires_grad=True) for c, s in zip(channels, strides, strict=True)]
    out = decoder(features)
    assert out.shape == (2, 2, 32, 48)
    out.square().mean().backward()
    assert all(feature.grad.abs().sum() > 0 for feature in features)


def test_cup_without_skips():
    decoder = CUPDecoder((10,), (8,), 2, widths=(8, 8, 4), hidden=12)
    assert decoder.skips == [None] * 3
    assert decoder([torch.randn(2, 10, 3, 4)]).shape == (2, 2, 24, 32)


def test_cup_needs_a_width_for_each_doubling():
    with pytest.raises(InputError, match="4 for stride 16, not 3"):
        CUPDecoder((10,), (16,), 2, widths=(8, 8, 4))
