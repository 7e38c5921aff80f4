from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewpairs.errors import DataError
from fewpairs.kinds.detection import masks as coco_masks

SIZES = st.tuples(st.integers(1, 23), st.integers(1, 17))
MASKS = SIZES.flatmap(lambda size: arrays(bool, (2, *size)))


@given(MASKS)
def test_masks_go_through_their_encoding_unchanged(masks: np.ndarray) -> None:
    size = (masks.shape[1], masks.shape[2])
    counts = coco_masks.encode_masks(masks)
    for one in counts:
        coco_masks.check_counts(one, size)
    np.testing.assert_array_equal(coco_masks.decode_masks(counts, size), masks)
    np.testing.assert_array_equal(coco_masks.mask_areas(counts, size), masks.sum(axis=(1, 2)))


@given(MASKS)
def test_packed_runs_are_the_runs_down_the_columns(masks: np.ndarray) -> None:
    flat = masks[0].T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat)).astype(int)))
    wanted = np.diff([0, *edges, len(flat)])
    counts = coco_masks.encode_masks(masks)[0]
    np.testing.assert_array_equal(coco_masks.unpack(counts), wanted)
    assert coco_masks.from_runs([int(run) for run in wanted], masks[0].shape) == counts


def test_boxes_go_around_masks() -> None:
    masks = np.zeros((2, 5, 7), bool)
    masks[0, 1:3, 2:6] = True
    boxes = coco_masks.mask_boxes(coco_masks.encode_masks(masks), (5, 7))
    assert boxes.tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]


def test_nothing_is_nothing() -> None:
    assert coco_masks.encode_masks(np.zeros((0, 3, 4), bool)) == []
    assert coco_masks.decode_masks([], (3, 4)).shape == (0, 3, 4)
    assert coco_masks.mask_areas([], (3, 4)).shape == (0,)
    assert coco_masks.mask_boxes([], (3, 4)).shape == (0, 4)


@given(st.text(max_size=12))
def test_a_damaged_encoding_is_refused_or_fills_the_image(counts: str) -> None:
    try:
        coco_masks.check_counts(counts, (4, 6))
    except DataError:
        return
    assert coco_masks.decode_masks([counts], (4, 6)).shape == (1, 4, 6)


def test_polygons_are_filled_and_joined() -> None:
    counts = coco_masks.from_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [6, 1, 8, 1, 8, 3, 6, 3]], (6, 9))
    mask = coco_masks.decode_masks([counts], (6, 9))[0]
    assert mask.sum() == 16 + 4
    far = coco_masks.from_polygons([[0, 0, 1e12, 0, 1e12, 1e12, 0, 1e12]], (6, 9))
    assert coco_masks.decode_masks([far], (6, 9)).all()


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "no polygon"),
        ([[0, 0, 1, 1]], "2 points"),
        ([[0, 0, 1, 1, 2]], "5 coordinates"),
        ([[0, 0, 1, 1, 2, float("nan")]], "finite"),
        (["abcdef"], "finite"),
    ],
)
def test_polygons_without_an_area_are_refused(polygons: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        coco_masks.from_polygons(polygons, (6, 9))


def test_runs_that_do_not_fill_the_image_are_refused() -> None:
    with pytest.raises(DataError, match="cover 5 pixels, but the image has 6"):
        coco_masks.from_runs([2, 3], (2, 3))
    with pytest.raises(DataError, match="whole numbers"):
        coco_masks.from_runs([-1, 7], (2, 3))
    with pytest.raises(DataError, match="ends within"):
        coco_masks.unpack("P")
