"""The sheet of mistakes: every picture and word is on it, whatever the numbers are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.kinds.classification.pictures import _picture, mistakes_sheet


def opened(sheet: bytes) -> Image.Image:
    return Image.open(io.BytesIO(sheet))


def test_every_picture_and_caption_is_on_the_sheet() -> None:
    images = [np.full((28, 28), shade, dtype=np.uint8) for shade in (50, 100, 200)]
    sheet = opened(mistakes_sheet(images, ["a", "b", "c"], ["b", "c", "a"], [0.99, 0.9, 0.8]))
    colours = {colour for _, colour in sheet.getcolors(2**16) or ()}
    assert {(shade, shade, shade) for shade in (50, 100, 200)} <= colours
    for changed in (
        (["a", "b", "x"], "bca", [0.99, 0.9, 0.8]),
        ("abc", "bcx", [0.99, 0.9, 0.8]),
        ("abc", "bca", [0.9] * 3),
    ):
        truths, predictions, confidences = changed
        other = opened(mistakes_sheet(images, list(truths), list(predictions), list(confidences)))
        assert other.size == sheet.size
        assert other.tobytes() != sheet.tobytes()


@pytest.mark.parametrize("shape", [(3, 40), (5, 5, 3), (300, 200, 3)])
def test_any_size_of_picture_fits(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert opened(mistakes_sheet([image] * 7, ["a" * 80] * 7, ["b"] * 7, [0.5] * 7)).width < 1400


def test_numbers_are_shown_from_their_smallest_to_their_largest() -> None:
    values = np.array([[-2.0, 0.0], [2.0, np.nan]])
    assert np.asarray(_picture(values)).tolist() == [[0, 128], [255, 0]]
    assert np.asarray(_picture(np.full((2, 2), 7.0))).tolist() == [[0, 0], [0, 0]]
    assert np.asarray(_picture(np.array([[3, 9]], dtype=np.uint8))).tolist() == [[3, 9]]
    assert np.asarray(_picture(np.full((2, 2), np.nan))).tolist() == [[0, 0], [0, 0]]


def test_what_does_not_fit_is_refused() -> None:
    image = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(InputError, match="0 images"):
        mistakes_sheet([], [], [], [])
    with pytest.raises(InputError, match="1 images, 2 truths"):
        mistakes_sheet([image], ["a", "b"], ["a"], [0.5])
    with pytest.raises(InputError, match=r"must be \[H W\] or \[H W 3\], got \[2, 2, 4\]"):
        mistakes_sheet([np.zeros((2, 2, 4))], ["a"], ["b"], [0.5])
