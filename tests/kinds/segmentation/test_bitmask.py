from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewpairs.errors import InputError
from fewpairs.kinds.segmentation.bitmask import bitmask_dtype, from_labels, pack, unpack


@given(st.integers(1, 20).flatmap(lambda k: arrays(bool, (2, k, 3, 4))))
def test_unpack_undoes_pack(masks: np.ndarray) -> None:
    packed = pack(masks)
    assert packed.dtype == bitmask_dtype(masks.shape[1])
    np.testing.assert_array_equal(unpack(packed, masks.shape[1]), masks)


@pytest.mark.parametrize(("classes", "bits"), [(1, 8), (8, 8), (9, 16), (17, 32), (33, 64), (64, 64)])
def test_the_smallest_type_with_a_bit_for_each_class(classes: int, bits: int) -> None:
    assert bitmask_dtype(classes) == np.dtype(f"u{bits // 8}")
    masks = np.zeros((classes, 1, 1), bool)
    masks[-1] = True
    assert int(pack(masks)[0, 0]) == 1 << (classes - 1)


@pytest.mark.parametrize("classes", [0, 65])
def test_a_number_of_classes_that_no_integer_holds_is_refused(classes: int) -> None:
    with pytest.raises(InputError, match=str(classes)):
        bitmask_dtype(classes)


def test_labels_may_belong_to_several_classes() -> None:
    packed = from_labels(np.array([[0, 1], [2, 3]]), ((1, 2), (2,)))
    np.testing.assert_array_equal(packed, [[0, 1], [3, 0]])
