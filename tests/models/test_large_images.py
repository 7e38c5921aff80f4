"""Bands and windows against the whole image: PyTorch's interpolation, MONAI's sliding window, brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from fewpairs.models.large_images import bands, resized_rows, shrunk, slide

sides = st.integers(1, 40)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let images of a few pixels count as large."""
    monkeypatch.setattr("fewpairs.models.large_images.LARGE", 64)
    monkeypatch.setattr("fewpairs.models.large_images._BAND", 32)


@given(sides, sides)
def test_bands_cover_every_row_once(height: int, width: int) -> None:
    rows = [row for top, bottom in bands((height, width)) for row in range(top, bottom)]
    assert rows == list(range(height))


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.data())
def test_rows_are_those_of_the_whole_interpolation(
    native: tuple[int, int], size: tuple[int, int], data: st.DataObject
) -> None:
    image = torch.randn(2, 3, *native, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    top = data.draw(st.integers(0, size[0] - 1))
    bottom = data.draw(st.integers(top + 1, size[0]))
    # a place in the image is a float32 of up to `native`, in both: it is off by its rounding, times the steepest step
    step = 2 * image.abs().max().item()
    places = 2 * torch.finfo(torch.float32).eps * (max(native) + 1)
    found = resized_rows(image, size, top, bottom)
    assert (found - whole[..., top:bottom, :]).abs().max().item() <= step * places


@given(st.tuples(sides, sides), st.tuples(sides, sides))
def test_shrinking_in_bands_is_shrinking(native: tuple[int, int], size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *native, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    found = shrunk(lambda top, bottom: image[..., top:bottom, :], native, size)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-5)


@given(
    st.tuples(sides, sides),
    st.tuples(st.integers(3, 16), st.integers(3, 16)),
    st.sampled_from([0.0, 0.25, 0.6]),
    st.integers(1, 7),
    st.integers(1, 3),
)
def test_windows_are_monai_s(
    size: tuple[int, int], window: tuple[int, int], overlap: float, at_once: int, images: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    size = max(size[0], window[0]), max(size[1], window[1])
    image, weight = torch.randn(images, 2, *size, generator=generator), torch.rand(window, generator=generator) + 0.1
    model = nn.Conv2d(2, 3, 3, padding=1)
    step = [max(1, int(side * (1 - overlap))) for side in window]
    with torch.no_grad():
        theirs = sliding_window_inference(image, window, at_once, model, overlap, roi_weight_map=weight)

        def segment(corners: list[tuple[int, int]]) -> Tensor:
            crops = [image[..., top : top + window[0], left : left + window[1]] for top, left in corners]
            result: Tensor = model(torch.cat(crops))
            return result

        found = list(slide(segment, size, window, (step[0], step[1]), at_once=at_once, weight=weight))
    assert [top for top, _ in found] == [sum(part.shape[-2] for _, part in found[:n]) for n in range(len(found))]
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(torch.cat([part for _, part in found], dim=-2), theirs, atol=1e-5, rtol=1e-5)


def test_only_rows_of_unfinished_windows_are_held() -> None:
    def segment(corners: list[tuple[int, int]]) -> Tensor:
        return torch.ones(len(corners), 1, 4, 4)

    found = [(top, part.shape[-2]) for top, part in slide(segment, (20, 8), (4, 4), (2, 4), at_once=2)]
    assert found == [(top, 2) for top in range(0, 16, 2)] + [(16, 4)]
