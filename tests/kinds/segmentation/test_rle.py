from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewpairs.errors import DataError
from fewpairs.kinds.segmentation.rle import rle_decode, rle_encode

PUBLISHED = (
    "28094 3 28358 7 28623 9 28889 9 29155 9 29421 9 29687 9 29953 9 30219 9 30484 10 30750 10 31016 10 31282 10 "
    "31548 10 31814 10 32081 9 32347 8 32614 6"
)
"""Stomach of case123_day20_slice_0065, 266 x 266, as many public notebooks print it."""


def test_a_published_mask_lies_where_it_should() -> None:
    mask = rle_decode(PUBLISHED, (266, 266))
    assert mask.sum() == 156
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (105, 122, 159, 168)
    assert rle_encode(mask) == PUBLISHED


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_decode_undoes_encode(mask: np.ndarray) -> None:
    text = rle_encode(mask)
    np.testing.assert_array_equal(rle_decode(text, mask.shape), mask)
    assert rle_encode(rle_decode(text, mask.shape)) == text


def test_rows_come_first_and_counting_starts_at_one() -> None:
    np.testing.assert_array_equal(rle_decode("3 2", (2, 3)), [[0, 0, 1], [1, 0, 0]])


def test_empty_text_is_an_empty_mask() -> None:
    assert not rle_decode("", (4, 5)).any()
    assert rle_encode(np.zeros((4, 5), bool)) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1", "'1' has no length"),
        ("1 2 3", "'3' has no length"),
        ("1 x", "'1 x' is not a whole number"),
        ("2 -1", "'2 -1' is not a whole number"),
        ("1.0 2", "'1.0 2' is not a whole number"),
        ("0 2", "'0 2' leaves the image"),
        ("12 2", "'12 2' leaves the image"),
        ("99 1", "'99 1' leaves the image"),
        ("4 0", "'4 0' has no length"),
        ("1 4 3 2", "'3 2' overlaps"),
        ("5 2 1 6", "'1 6' overlaps"),
        ("1 99999999999999999999", "is not a whole number"),
    ],
)
def test_the_offending_pair_is_named(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        rle_decode(text, (3, 4), where="train.csv, id a, class b")
    assert str(caught.value).startswith("train.csv, id a, class b: ")


@given(st.text(alphabet="0123456789 -.x", max_size=30))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    try:
        mask = rle_decode(text, (5, 7))
    except DataError:
        return
    np.testing.assert_array_equal(rle_decode(rle_encode(mask), (5, 7)), mask)
