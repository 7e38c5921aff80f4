from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from labelled_files import idx_bytes
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture
def write_picture() -> Write:
    """Write a small picture; the same path always gets the same pixels, other paths others."""

    def write(path: Path, size: tuple[int, int] = (12, 16), mode: str = "RGB", **options: object) -> Path:
        rng = np.random.default_rng(sum(str(path.name).encode()))
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(path, **options)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def pictures(tmp_path: Path, write_picture: Write) -> Path:
    """Class folders of three classes: `train` with 6, 5 and 4 images, `val` with 2 each; some are nested."""
    root = tmp_path / "pictures"
    for part, counts in (("train", (6, 5, 4)), ("val", (2, 2, 2))):
        for name, count in zip(("ant", "bee", "cat"), counts, strict=True):
            for number in range(count):
                folder = root / part / name / ("more" if number == 1 else "")
                write_picture(folder / f"{part}{number}.{'JPEG' if number % 2 else 'png'}")
    return root


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    def write(root: Path, labels: Sequence[int], *, part: str = "train", packed: bool = True, prefix: str = "") -> Path:
        root.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(labels))
        images = rng.integers(0, 256, (len(labels), 7, 5), np.uint8)
        for what, values in (("images-idx3", images), ("labels-idx1", np.array(labels))):
            path = root / f"{prefix}{part}-{what}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
        return root

    return write
