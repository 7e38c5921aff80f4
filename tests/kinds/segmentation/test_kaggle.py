"""The proxy of the competition's score, on cases small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.kaggle import hausdorff_score, slice_dice
from fewpairs.kinds.segmentation.record import segmentation_record
from fewpairs.kinds.segmentation.scores import segmentation_scores


def test_only_slices_with_the_class_on_either_side_are_averaged() -> None:
    total, number = slice_dice(np.array([2, 0, 0, 0]), np.array([2, 3, 0, 0]), np.array([4, 0, 5, 0]))
    assert number == 3
    assert total == pytest.approx(2 * 2 / 6)


def test_the_hausdorff_score_is_a_share_of_the_diagonal_in_voxels() -> None:
    truth = np.zeros((2, 6, 8), dtype=bool)
    truth[0, 0, 0] = True
    prediction = truth.copy()
    prediction[1, 3, 4] = True
    assert hausdorff_score(prediction, truth) == pytest.approx(1 - np.sqrt(1 + 9 + 16) / np.sqrt(4 + 36 + 64))


def test_the_hausdorff_score_looks_from_the_prediction_only() -> None:
    truth = np.zeros((2, 6, 8), dtype=bool)
    truth[0, 0, 0] = truth[1, 3, 4] = True
    prediction = np.zeros_like(truth)
    prediction[0, 0, 0] = True
    assert hausdorff_score(prediction, truth) == 1.0
    assert hausdorff_score(truth, prediction) < 1.0


def test_the_hausdorff_score_of_one_slice_is_that_of_contours() -> None:
    truth = np.zeros((1, 9, 9), dtype=bool)
    truth[0, :7, :7] = True
    prediction = np.zeros_like(truth)
    prediction[0, 3, 3] = True  # in the middle, 3 pixels away from the contour, and inside of the mask
    assert hausdorff_score(prediction, truth) == pytest.approx(1 - 3 / np.sqrt(1 + 81 + 81))


def test_empty_masks() -> None:
    empty, full = np.zeros((2, 3, 3), dtype=bool), np.ones((2, 3, 3), dtype=bool)
    assert hausdorff_score(empty, empty) == 1.0
    assert hausdorff_score(empty, full) == 0.0
    assert hausdorff_score(full, empty) == 0.0


@given(arrays(bool, (3, 4, 4)), arrays(bool, (3, 4, 4)))
def test_the_hausdorff_score_lies_between_0_and_1(prediction: np.ndarray, truth: np.ndarray) -> None:
    assert 0.0 <= hausdorff_score(prediction, truth) <= 1.0


@pytest.mark.parametrize("rule", EmptyRule)
def test_the_score_weighs_slices_and_volumes_whatever_the_rule(rule: EmptyRule) -> None:
    truth = np.zeros((4, 2, 6, 6), dtype=bool)
    truth[1:3, 0, 1:4, 1:4] = True
    prediction = truth.copy()
    prediction[2, 0] = False
    record = segmentation_record(prediction, truth, (3.0, 1.0, 1.0), scan="s", case="c")
    score = segmentation_scores([record], rule=rule)["kaggle"]
    # Dice: slices 1 and 2 of the first class count (1 and 0); Hausdorff: nothing predicted outside, absent class is 1.
    assert score == pytest.approx(0.4 * 0.5 + 0.6 * 1.0)
