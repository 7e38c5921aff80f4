"""Scans with missing slices: neighbours, distances and heights follow the numbers of the slices."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from fewpairs.kinds.segmentation.dataset import SegmentationDataset, SegmentationItems
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.readers import find_inputs, read_input
from fewpairs.kinds.segmentation.record import segmentation_record
from fewpairs.kinds.segmentation.scoring import SegmentationMetric
from fewpairs.kinds.segmentation.view import SegmentationView


@given(st.sets(st.integers(1, 40), min_size=1), st.sampled_from([1, 3, 5]), st.integers(1, 3), st.data())
def test_a_neighbour_is_the_slice_of_the_nearest_number(
    found: set[int], stack: int, step: int, data: st.DataObject
) -> None:
    numbers = sorted(found)
    index = data.draw(st.integers(0, len(numbers) - 1))
    view = SegmentationView(size=(4, 4), stack=stack, step=step)
    chosen = view.neighbours(index, len(numbers), numbers).tolist()
    for place, one in enumerate(chosen):
        wanted = numbers[index] + step * (place - stack // 2)
        apart = [abs(number - wanted) for number in numbers]
        assert apart[one] == min(apart)
        if wanted in found:
            assert numbers[one] == wanted
        best = [other for other, distance in enumerate(apart) if distance == min(apart)]
        assert abs(one - index) == min(abs(other - index) for other in best)
    whole = list(range(7, 7 + len(numbers)))
    np.testing.assert_array_equal(view.neighbours(index, len(numbers), whole), view.neighbours(index, len(numbers)))


def test_distances_between_slices_follow_their_numbers() -> None:
    """Independent value: SciPy's erosion of the slices that are there, and all distances between their true places."""
    rng = np.random.default_rng(2)
    numbers, spacing = (3, 4, 9, 10, 11, 20), (3.0, 1.5, 1.2)
    prediction, truth = (ndimage.gaussian_filter(rng.normal(size=(6, 14, 12)), 2) > 0 for _ in range(2))
    record = segmentation_record(prediction[:, None], truth[:, None], spacing, scan="s", case="c", numbers=numbers)

    def places(mask: np.ndarray) -> np.ndarray:
        points = np.argwhere(mask & ~ndimage.binary_erosion(mask)).astype(float)
        points[:, 0] = np.array(numbers)[points[:, 0].astype(int)]
        return points * spacing

    apart = cdist(places(prediction), places(truth))
    expected = max(np.percentile(apart.min(axis=axis), 95) for axis in (0, 1))
    assert record.hd95_mm == (pytest.approx(expected),)
    assert record.diagonal_mm == pytest.approx(float(np.linalg.norm(np.multiply((18, 14, 12), spacing))))
    voxel_places = [np.unique(places(mask) / spacing, axis=0) for mask in (prediction, truth)]
    worst = cdist(*voxel_places).min(axis=1).max()
    assert record.hausdorff_score == (pytest.approx(1 - worst / np.linalg.norm((18, 14, 12))),)
    beside = segmentation_record(prediction[:, None], truth[:, None], spacing, scan="s", case="c")
    assert beside.hd95_mm != record.hd95_mm
    assert beside.true_positive == record.true_positive


@pytest.fixture
def partial(phantom: Path, tmp_path: Path) -> Path:
    """Phantom cases; in the first, slice 2 of four is missing, though the table has its rows."""
    root = tmp_path / "uw"
    shutil.copytree(phantom, root)
    scan = UWMadison(root).scans()[0]
    scan.files[1].unlink()
    return root


def test_a_gap_reaches_training_evaluation_and_prediction(partial: Path, phantom: Path, tmp_path: Path) -> None:
    store = prepare(UWMadison(partial), tmp_path / "cache", progress=False)
    whole = prepare(UWMadison(phantom), tmp_path / "whole", progress=False)
    scan = store.scans[0]
    assert scan.numbers == (1, 3, 4)
    assert store.scans[1].numbers is None
    view = SegmentationView(size=store.scans[0].size, fit="pad", stack=3, normalise="max")
    items, all_items = (SegmentationItems(one, one.cases[:1], view) for one in (store, whole))
    image, complete = items[0].image, all_items[0].image
    chosen = {1: (0, 0, 0), 3: (1, 1, 2), 4: (1, 2, 2)}
    alone = [complete[index, 1] for index in (0, 2, 3)]
    for place, (number, neighbours) in enumerate(chosen.items()):
        for channel, other in enumerate(neighbours):
            assert image[place, channel].equal(alone[other]), (number, channel)
    training = SegmentationDataset(store, store.cases[:1], view)
    assert len(training) == 3
    metric = SegmentationMetric(store.classes)
    record = metric.measure(items[0].mask, items[0])[0]
    assert record.diagonal_mm == pytest.approx(float(np.linalg.norm(np.multiply((4, *scan.size), scan.spacing))))
    (given_,) = find_inputs([scan_folder(partial)])
    read = read_input(given_, thickness=6.0)
    assert read.numbers == (1, 3, 4)
    assert read.spacing[0] == 6.0


def scan_folder(root: Path) -> Path:
    return UWMadison(root).scans()[0].files[0].parent
