from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latchkey.types import Geometry, Grid

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def test_a_grid_counts_its_prefix() -> None:
    assert Grid(3, 4).tokens == 12
    assert Grid(3, 4, prefix=5).tokens == 17


@given(SIZES, SIZES)
def test_pad_keeps_every_pixel_and_goes_back(native: tuple[int, int], extra: tuple[int, int]) -> None:
    geometry = Geometry(native, (native[0] + extra[0], native[1] + extra[1]), "pad")
    image = torch.arange(2 * native[0] * native[1], dtype=torch.float32).reshape(1, 2, *native)
    padded = geometry.apply(image, value=-1.0)
    assert padded.shape[-2:] == geometry.model
    assert (padded == -1).sum() == padded.numel() - image.numel()
    assert torch.equal(geometry.invert(padded), image)


@given(SIZES, SIZES)
def test_resize_has_the_sizes_asked_for_and_keeps_a_constant(native: tuple[int, int], model: tuple[int, int]) -> None:
    geometry = Geometry(native, model)
    image = torch.full((1, 1, *native), 3.0)
    resized = geometry.apply(image)
    assert resized.shape[-2:] == model
    back = geometry.invert(resized)
    assert back.shape[-2:] == native
    torch.testing.assert_close(back, image)


def test_masks_stay_binary() -> None:
    mask = (torch.rand(1, 1, 13, 17) > 0.5).float()
    resized = Geometry((13, 17), (32, 20)).apply(mask, mode="nearest")
    assert set(resized.unique().tolist()) <= {0.0, 1.0}


def test_pad_cannot_shrink() -> None:
    with pytest.raises(ValueError, match="enlarge the model size or use fit='resize'"):
        Geometry((10, 20), (10, 19), "pad")
