from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.view import SegmentationView


@given(st.integers(1, 9), st.sampled_from([1, 3, 5]), st.integers(1, 4), st.data())
def test_neighbours_are_centred_and_clamped(slices: int, stack: int, step: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, slices - 1))
    found = SegmentationView((8, 8), stack=stack, step=step).neighbours(index, slices).tolist()
    assert len(found) == stack
    assert found[stack // 2] == index
    assert found == [min(max(index + step * j, 0), slices - 1) for j in range(-(stack // 2), stack // 2 + 1)]


def numbered(slices: int, channels: int = 1) -> np.ndarray:
    """Every pixel of slice s and channel c is 10 s + c + 1, but for one bright column that fixes the scale."""
    image = np.zeros((slices, channels, 4, 6), np.float32)
    for s in range(slices):
        for c in range(channels):
            image[s, c] = 10 * s + c + 1
    image[..., 0] = 1000
    return image


def test_stacked_slices_are_channels_in_order() -> None:
    image = numbered(5, channels=2)
    view = SegmentationView((4, 6), stack=3, step=2)
    found, geometry = view.apply(image, intensity_statistics(image))
    assert view.channels(2) == 6
    assert found.shape == (5, 6, 4, 6)
    assert geometry.native == geometry.model == (4, 6)
    values = (found[..., -1, -1] * 1000).round().int().tolist()
    assert values[2] == [1, 2, 21, 22, 41, 42]
    assert values[0] == [1, 2, 1, 2, 21, 22], "the first slice stands in for those before it"
    assert values[4] == [21, 22, 41, 42, 41, 42]


def test_single_slices_come_out_as_in_the_whole_scan() -> None:
    image = np.random.default_rng(0).integers(0, 900, (6, 1, 9, 7)).astype(np.uint16)
    statistics = intensity_statistics(image)
    for view in (
        SegmentationView((5, 8), stack=3, step=2),
        SegmentationView((12, 12), fit="pad", normalise="zscore"),
        SegmentationView((9, 7), stack=5),
    ):
        whole, _ = view.apply(image, statistics)
        for index in range(6):
            torch.testing.assert_close(view.apply(image, statistics, [index])[0][0], whole[index])


def test_pad_keeps_pixels_and_resize_keeps_the_field_of_view() -> None:
    image = np.ones((1, 1, 4, 6), np.uint8)
    padded, _ = SegmentationView((8, 8), fit="pad").apply(image, intensity_statistics(image))
    assert padded.sum() == 24
    resized, _ = SegmentationView((8, 8)).apply(image, intensity_statistics(image))
    assert resized.sum() == 64


def test_too_large_for_pad() -> None:
    with pytest.raises(InputError, match="fit='pad' cannot shrink a 9x9 slice to 8x8"):
        SegmentationView((8, 8), fit="pad").check([(4, 4), (9, 9)])


@pytest.mark.parametrize(
    "wrong",
    [{"size": (0, 4)}, {"size": (4,)}, {"fit": "crop"}, {"normalise": "mean"}, {"stack": 2}, {"stack": 0}, {"step": 0}],
)
def test_views_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        SegmentationView(**{"size": (8, 8), **wrong})  # type: ignore[arg-type]


def test_a_size_from_a_list_is_a_tuple() -> None:
    assert SegmentationView([8, 9]).size == (8, 9)  # type: ignore[arg-type]
