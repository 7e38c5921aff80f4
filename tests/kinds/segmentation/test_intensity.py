from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewpairs.kinds.segmentation.intensity import NORMALISATIONS, intensity_statistics, normalise


def scan(dtype: str = "uint16", channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(50, 200, (4, channels, 10, 12))
    image[:, :, :3] = 0
    return image.astype(dtype)


def test_max_divides_each_slice_by_its_own_largest_value() -> None:
    image = scan()
    image[1] *= 7
    image[2] = 0
    found = normalise(image, intensity_statistics(image), "max")
    np.testing.assert_allclose(found.max(axis=(1, 2, 3)), [1, 1, 0, 1])
    np.testing.assert_allclose(found[1], image[1] / image[1].max(), rtol=1e-6)


def test_percentile_is_of_the_scan_and_clipped() -> None:
    image = scan()
    image[0, 0, 5, 5] = 60000
    found = normalise(image, intensity_statistics(image), "percentile")
    assert (found.min(), found.max()) == (0, 1)
    low, high = np.percentile(image, (1, 99))
    np.testing.assert_allclose(found[3], np.clip((image[3] - low) / (high - low), 0, 1), rtol=1e-5)


def test_zscore_is_of_the_foreground_and_robust() -> None:
    image = scan()
    inside = image[image > 0].astype(float)
    image[0, 0, 5, 5] = 60000
    found = normalise(image, intensity_statistics(image), "zscore")
    assert np.median(found[:, :, 3:]) == pytest.approx(0, abs=0.1)
    statistics = intensity_statistics(image)
    assert statistics.mean[0] == pytest.approx(inside.mean(), rel=0.05)
    assert statistics.deviation[0] == pytest.approx(inside.std(), rel=0.05)


def test_zscore_does_not_see_the_scale_of_a_scan() -> None:
    image = scan("float32")
    scaled = image * 37 + 5
    a, b = (normalise(x, intensity_statistics(x), "zscore") for x in (image, scaled))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_channels_have_their_own_statistics() -> None:
    image = scan("float32", channels=2)
    image[:, 1] *= 100
    found = normalise(image, intensity_statistics(image), "percentile")
    assert found[:, 0].mean() == pytest.approx(found[:, 1].mean(), abs=0.05)


@pytest.mark.parametrize("how", NORMALISATIONS)
@given(image=arrays(np.uint16, (2, 1, 3, 3), elements=st.integers(0, 65535)))
def test_any_scan_becomes_finite_float32_and_stays_itself(how: str, image: np.ndarray) -> None:
    before = image.copy()
    found = normalise(image, intensity_statistics(image), how)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_a_constant_scan_becomes_constant(how: str) -> None:
    for value in (0, 9):
        image = np.full((2, 1, 3, 3), value, np.uint8)
        assert np.ptp(normalise(image, intensity_statistics(image), how)) == 0  # type: ignore[arg-type]


def test_large_scans_are_sampled_without_much_change() -> None:
    image = np.random.default_rng(0).normal(100, 10, (3, 1, 1000, 1000)).astype(np.float32)
    statistics = intensity_statistics(image)
    assert statistics.mean[0] == pytest.approx(100, abs=0.1)
    assert statistics.low[0] == pytest.approx(np.percentile(image, 1), abs=0.1)
