"""Small data sets in every layout, written once or afresh."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_files import save_picture, save_volume
from numpy.typing import NDArray

from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.phantom.phantom import make_phantom
from fewpairs.kinds.segmentation.preparation import prepare
from fewpairs.kinds.segmentation.record import SegmentationRecord, segmentation_record
from fewpairs.kinds.segmentation.store import Store

CLASSES = ("stomach", "bowel")
MakeRecord = Callable[..., SegmentationRecord]


def make_record(
    seed: int, *, case: str = "", scan: str = "", error: float = 0.1, density: float = 0.3, surface: bool = False
) -> SegmentationRecord:
    """Random overlapping masks in which a share `error` of the voxels is predicted wrongly."""
    generator = np.random.default_rng(seed)
    truth: NDArray[np.bool_] = generator.random((3, 2, 6, 5)) < density
    prediction = truth ^ (generator.random(truth.shape) < error)
    return segmentation_record(
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


@pytest.fixture(scope="session")
def phantom_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantom cases of two scans with eight slices; not to be changed."""
    root = tmp_path_factory.mktemp("phantom") / "uw"
    return make_phantom(root, cases=6, seed=3, scale=0.15, days=2, slices=8)


@pytest.fixture(scope="session")
def store(phantom_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of `phantom_once`; not to be changed."""
    return prepare(UWMadison(phantom_once), tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture
def phantom_copy(phantom_once: Path, tmp_path: Path) -> Path:
    """A copy of the phantom that a test may damage."""
    return Path(shutil.copytree(phantom_once, tmp_path / "uw"))


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    """Four volumes of 7 x 6 x 5 voxels with labels 0, 1, 2."""
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.normal(100, 20, (7, 6, 5)).astype(np.float32)
        labels = rng.integers(0, 3, (7, 6, 5)).astype(np.uint8)
        save_volume(tmp_path / "msd" / "imagesTr" / f"scan_{number}.nii.gz", image)
        save_volume(tmp_path / "msd" / "labelsTr" / f"scan_{number}.nii.gz", labels)
    return tmp_path / "msd"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three grey pictures with masks of labels 0, 1, 2."""
    rng = np.random.default_rng(0)
    for number, size in enumerate([(9, 8), (9, 8), (6, 10)]):
        save_picture(tmp_path / "pics" / "images" / f"p{number}_1.png", rng.integers(0, 255, size).astype(np.uint8))
        save_picture(tmp_path / "pics" / "masks" / f"p{number}_1.png", rng.integers(0, 3, size).astype(np.uint8))
    return tmp_path / "pics"
