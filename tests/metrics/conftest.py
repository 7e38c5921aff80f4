"""Made scans for the metric tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fewpairs.metrics import ScanStatistics, scan_statistics

CLASSES = ("stomach", "bowel")
MakeRecord = Callable[..., ScanStatistics]


def make_record(
    seed: int, *, case: str = "", scan: str = "", error: float = 0.1, density: float = 0.3, surface: bool = False
) -> ScanStatistics:
    """Random overlapping masks in which a share `error` of the voxels is predicted wrongly."""
    generator = np.random.default_rng(seed)
    truth: NDArray[np.bool_] = generator.random((3, 2, 6, 5)) < density
    prediction = truth ^ (generator.random(truth.shape) < error)
    return scan_statistics(
        prediction,
        truth,
        (3.0, 1.5, 1.0),
        scan=scan or f"scan{seed}",
        case=case or f"case{seed}",
        classes=CLASSES,
        surface=surface,
    )


@pytest.fixture(scope="session")
def record() -> MakeRecord:
    return make_record
