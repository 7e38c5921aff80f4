"""The sheet shows the slices in which something was found, each at its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.kinds.segmentation.sheet import SLICES, _shown, _tiled, chosen_slices, contact_sheet


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_slices_are_spread_over_what_was_found(found: list[bool]) -> None:
    chosen = chosen_slices(np.array(found))
    candidates = [index for index, flag in enumerate(found) if flag] or list(range(len(found)))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(candidates)
    assert len(chosen) == min(SLICES, len(candidates))
    assert chosen[0] == candidates[0]
    if len(candidates) > 1:
        assert chosen[-1] == candidates[-1]


def test_tiles_lie_in_rows() -> None:
    tiles = [np.full((2, 3), value) for value in (1, 2, 3, 4)]
    sheet = _tiled(tiles, 3)
    assert sheet.shape == (8, 17)
    assert [sheet[0, 0], sheet[0, 7], sheet[0, 14], sheet[6, 0]] == [1, 2, 3, 4]
    assert sheet[2].sum() == sheet[6, 3:].sum() == 0


@pytest.mark.parametrize("slices", [1, 2, 9])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.int16), (3, np.uint8), (3, np.float32), (2, np.uint16)])
def test_every_kind_of_scan_has_a_picture(slices: int, channels: int, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 200, (slices, channels, 12, 17)).astype(dtype)
    masks = np.zeros((slices, 2, 12, 17), bool)
    without = contact_sheet(image, masks, ("a", "b"), title="scan")
    masks[-1, 1, 3:8, 3:8] = True
    assert contact_sheet(image, masks, ("a", "b"), title="scan").tobytes() != without.tobytes()


def test_a_constant_slice_and_outliers_are_shown() -> None:
    assert _shown(np.full((1, 4, 4), 7.0)).tolist() == [[0.0] * 4] * 4
    single = np.zeros((1, 40, 40))
    single[0, 0, 0] = 5.0
    assert _shown(single).max() == 1.0
    values = np.linspace(0, 1, 10_000).reshape(1, 100, 100)
    values[0, 0, 0] = 1e6
    assert _shown(values)[50, 50] > 0.4
