"""Small volumes and pictures on disk."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

AFFINE = np.diag([0.8, 0.9, 2.5, 1.0])


def save_volume(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
