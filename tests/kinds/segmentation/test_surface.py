"""The 95 % Hausdorff distance against MONAI's, a brute-force one, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance

from fewpairs.kinds.segmentation.surface import crop_to_union, diagonal, directed_distances, hausdorff, surface

SPACING = (3.0, 1.5, 1.25)
masks = arrays(bool, (4, 6, 5)).filter(lambda mask: bool(mask.any()))
flat = st.sampled_from([(1, 6, 5), (4, 1, 5), (4, 6, 1), (1, 1, 7), (1, 1, 1)]).flatmap(
    lambda shape: st.tuples(*[arrays(bool, shape).filter(lambda mask: bool(mask.any()))] * 2)
)
"""Pairs of masks of a scan that has one voxel along some of its axes."""


def brute_force(first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float], percentile: float) -> float:
    def border(mask: np.ndarray) -> list[np.ndarray]:
        points = []
        wide = [axis for axis in range(3) if mask.shape[axis] > 1]
        for index in np.argwhere(mask):
            if not wide:
                points.append(index)
            for axis, step in itertools.product(wide, (-1, 1)):
                beside = index.copy()
                beside[axis] += step
                outside = (beside < 0).any() or (beside >= mask.shape).any()
                if outside or not mask[tuple(beside)]:
                    points.append(index)
                    break
        return points

    def directed(a: list[np.ndarray], b: list[np.ndarray]) -> float:
        gaps = [min(float(np.linalg.norm((p - q) * spacing)) for q in b) for p in a]
        return float(np.percentile(gaps, percentile))

    a, b = border(first), border(second)
    return max(directed(a, b), directed(b, a))


@given(masks, masks)
def test_it_is_the_brute_force_distance(first: np.ndarray, second: np.ndarray) -> None:
    assert hausdorff(first, second, SPACING) == pytest.approx(brute_force(first, second, SPACING, 95.0), abs=1e-9)


@given(flat)
def test_it_is_the_brute_force_distance_along_the_axes_of_a_flat_scan(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert hausdorff(*pair, SPACING) == pytest.approx(brute_force(*pair, SPACING, 95.0), abs=1e-9)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("axis", range(3))
@given(st.data())
def test_a_scan_of_one_slice_has_monai_s_distance_of_two_images(axis: int, data: st.DataObject) -> None:
    first, second = (data.draw(arrays(bool, (6, 5)).filter(lambda mask: bool(mask.any()))) for _ in range(2))
    theirs = compute_hausdorff_distance(
        torch.from_numpy(first)[None, None],
        torch.from_numpy(second)[None, None],
        include_background=True,
        percentile=95,
        spacing=[length for place, length in enumerate(SPACING) if place != axis],
    )
    ours = hausdorff(np.expand_dims(first, axis), np.expand_dims(second, axis), SPACING)
    assert ours == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)


def test_discs_on_one_slice_are_as_far_apart_as_their_contours() -> None:
    rows, columns = np.mgrid[:64, :64]
    first, second = (((rows - 30) ** 2 + (columns - middle) ** 2 < 15**2)[None] for middle in (30, 33))
    assert hausdorff(first, second, (1.0, 1.0, 1.0)) == pytest.approx(3.0)
    assert hausdorff(first, second, (9.0, 0.5, 0.5)) == pytest.approx(1.5)


def test_masks_in_one_slice_of_a_scan_of_several_are_all_surface() -> None:
    rows, columns = np.mgrid[:64, :64]
    first, second = (np.zeros((3, 64, 64), bool) for _ in range(2))
    first[1], second[1] = (((rows - 30) ** 2 + (columns - middle) ** 2 < 15**2) for middle in (30, 33))
    assert surface(first).sum() == first.sum()
    assert hausdorff(first, second, (1.0, 1.0, 1.0)) == brute_force(first, second, (1.0, 1.0, 1.0), 95.0)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")  # MONAI announces a change of a default in its own call
@given(masks, masks, st.sampled_from([50.0, 95.0, 100.0]))
def test_it_is_monai_s_distance(first: np.ndarray, second: np.ndarray, percentile: float) -> None:
    theirs = compute_hausdorff_distance(
        torch.from_numpy(first)[None, None],
        torch.from_numpy(second)[None, None],
        include_background=True,
        percentile=percentile,
        spacing=list(SPACING),
    )
    assert hausdorff(first, second, SPACING, percentile=percentile) == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)


@given(masks, masks)
def test_it_is_symmetric_and_within_the_diagonal(first: np.ndarray, second: np.ndarray) -> None:
    distance = hausdorff(first, second, SPACING)
    assert distance == hausdorff(second, first, SPACING)
    assert 0.0 <= distance <= diagonal(first.shape, SPACING)


@given(masks)
def test_a_mask_is_at_no_distance_from_itself(mask: np.ndarray) -> None:
    assert hausdorff(mask, mask, SPACING) == 0.0


@pytest.mark.parametrize(("axis", "expected"), [(0, 6.0), (1, 3.0), (2, 2.5)])
def test_millimetres_follow_the_spacing_of_each_axis(axis: int, expected: float) -> None:
    first = np.zeros((9, 9, 9), dtype=bool)
    first[4, 4, 4] = True
    assert hausdorff(first, np.roll(first, 2, axis=axis), SPACING) == pytest.approx(expected)


def test_the_inside_of_a_ball_is_no_surface() -> None:
    cube = np.zeros((7, 7, 7), dtype=bool)
    cube[1:6, 1:6, 1:6] = True
    assert surface(cube).sum() == 5**3 - 3**3
    assert surface(np.ones((3, 3, 3), dtype=bool)).sum() == 26


@given(masks, masks)
def test_tree_and_distance_transform_agree(first: np.ndarray, second: np.ndarray) -> None:
    by_tree = directed_distances(first, second, SPACING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewpairs.kinds.segmentation.surface.TREE_POINTS", 0)
        by_transform = directed_distances(first, second, SPACING)
    np.testing.assert_allclose(by_transform, by_tree, atol=1e-9)


@given(masks, masks)
def test_cropping_keeps_every_voxel(first: np.ndarray, second: np.ndarray) -> None:
    cropped = crop_to_union(first, second)
    assert (cropped[0].sum(), cropped[1].sum()) == (first.sum(), second.sum())
    assert cropped[0].shape == cropped[1].shape
