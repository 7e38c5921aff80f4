"""Images and masks looked at before training starts: what is damaged, what does not fit, and how much of each class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import fail_on
from fewpairs.data.pictures import read_header, turned_notes
from fewpairs.data.progress import track
from fewpairs.errors import DataError
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource, size_mismatch
from fewpairs.types import IGNORE

_THREADS = 8
_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class ImageOverview:
    """What a data set holds."""

    images: dict[str, int]
    """By part."""
    pixels: dict[str, dict[str, int]] | None
    """By part and class, with "(not scored)"; None unless labels were decoded."""
    notes: tuple[str, ...]
    """What does no harm."""
    problems: tuple[str, ...]
    """A sentence for each file that is damaged or does not fit."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"images": self.images, "pixels": self.pixels, "notes": list(self.notes), "errors": list(self.problems)}


def check_images(
    source: SemanticSource, files: Sequence[ImageFiles], *, decode: bool = False, progress: bool = True
) -> None:
    """Look at images and masks, and name all that are damaged or do not fit together at once.

    By default headers alone are read: is it a picture, do the sizes agree? `decode` reads every pixel and label.

    Raises:
        DataError: some are wrong.
    """
    problems, _, _ = _looked_at(source, files, decode=decode, progress=progress)
    fail_on(problems, "fix these files, or remove each image together with its mask")


def summarize_images(source: SemanticSource, *, decode: bool = False, progress: bool = True) -> ImageOverview:
    """All parts of a source, as `check_images` looks at them, without raising."""
    images, pixels, problems = {}, {}, []
    turned: dict[str, int] = {}
    for part, files in source.parts.items():
        found, tags, counts = _looked_at(source, files, decode=decode, progress=progress)
        problems += found
        turned |= tags
        images[part] = len(files)
        pixels[part] = {name: int(count) for name, count in zip(source.classes, counts, strict=False)}
        pixels[part]["(not scored)"] = int(counts[IGNORE])
    return ImageOverview(images, pixels if decode else None, turned_notes(turned), tuple(problems))


def _looked_at(
    source: SemanticSource, files: Sequence[ImageFiles], *, decode: bool, progress: bool
) -> tuple[list[str], dict[str, int], NDArray[np.int64]]:
    """A sentence for each problem, the EXIF orientations that there are by id, and the pixels of each label `[256]`."""

    def look(one: ImageFiles) -> tuple[str | None, int, NDArray[np.int64] | None]:
        try:
            header = read_header(one.image)
            if decode:
                return None, header.orientation, np.bincount(source.read(one)[1].ravel(), minlength=IGNORE + 1)
            if header.size != (mask := read_header(one.mask).size):
                raise size_mismatch(one, header.size, mask)
        except DataError as error:
            return str(error), 1, None
        return None, header.orientation, None

    turned: dict[str, int] = {}
    problems: list[str] = []
    total = np.zeros(IGNORE + 1, np.int64)
    groups = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in track(groups, f"checking {len(files)} images", enabled=progress):
            for one, (problem, orientation, counts) in zip(group, pool.map(look, group), strict=True):
                if orientation != 1:
                    turned[one.id] = orientation
                if problem is not None:
                    problems.append(problem)
                if counts is not None:
                    total += counts
    return problems, turned, total
