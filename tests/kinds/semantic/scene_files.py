"""Small made data sets with label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ground", "disc", "bar")


def scene(number: int, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A picture `[H W 3]` and labels `[H W]`: a disc and a bar, of their own colours, at places of their own."""
    generator = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.uint8)
    row, column = generator.integers(8, size[0] - 8), generator.integers(8, size[1] - 8)
    labels[(rows - row) ** 2 + (columns - column) ** 2 < 49] = 1
    place = int(generator.integers(0, size[1] - 6))
    labels[:, place : place + 5] = 2
    colours = np.array([(60, 70, 60), (220, 60, 50), (40, 90, 230)], np.uint8)
    noise = generator.integers(-12, 13, (*size, 3))
    return (colours[labels].astype(int) + noise).clip(0, 255).astype(np.uint8), labels


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_folder(root: Path, *, train: int = 6, val: int = 3, size: tuple[int, int] = (40, 48)) -> Path:
    """`images/{train,val}` beside `masks/{train,val}`."""
    for part, start, count in (("train", 0, train), ("val", 100, val)):
        for number in range(start, start + count):
            image, labels = scene(number, size)
            save(root / "images" / part / f"{number}.png", image)
            save(root / "masks" / part / f"{number}.png", labels)
    return root
