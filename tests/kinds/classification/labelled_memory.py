"""A labelled data set in memory, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from fewpairs.kinds.classification.source import LabelledSource


class MemoryPart:
    """Random pictures of one size; grey or colour."""

    def __init__(self, name: str, labels: Sequence[int], size: tuple[int, int] = (10, 14), mode: str = "RGB") -> None:
        self.name, self.size, self.mode = name, size, mode
        self.labels = np.asarray(labels, np.int64)

    def read(self, index: int) -> Image.Image:
        pixels = np.random.default_rng(index).integers(0, 256, (*self.size, 3), np.uint8)
        return Image.fromarray(pixels).convert(self.mode)

    def id(self, index: int) -> str:
        return f"{self.name}/{index}"

    def file(self, index: int) -> None:
        return None


def memory_source(parts: Mapping[str, Sequence[int]], classes: int, **options: object) -> LabelledSource:
    made = {name: MemoryPart(name, labels, **options) for name, labels in parts.items()}  # type: ignore[arg-type]
    channels = 1 if options.get("mode") == "L" else 3
    return LabelledSource("made", [f"class{label}" for label in range(classes)], made, channels=channels)
