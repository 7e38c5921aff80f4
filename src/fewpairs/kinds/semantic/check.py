"""Checks of images and masks before training: damaged files, mismatched sizes, and the pixels of each class."""

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
    """Summary of a data set."""

    images: dict[str, int]
    """Number of images by part."""
    pixels: dict[str, dict[str, int]] | None
    """Number of pixels by part and class, with "(not scored)"; None unless labels were decoded."""
    notes: tuple[str, ...]
    """Oddities that do no harm."""
    problems: tuple[str, ...]
    """A sentence for each file that is damaged or does not match its partner."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"images": self.images, "pixels": self.pixels, "notes": list(self.notes), "errors": list(self.problems)}


def check_images(
    source: SemanticSource, files: Sequence[ImageFiles], *, decode: bool = False, progress: bool = True
) -> None:
    """Check images and masks, by default their format and size in the headers; `decode` reads every pixel and label.

    Raises:
        DataError: some are damaged or do not fit together; one message names all.
    """
    problems, _, _ = _check_files(source, files, decode=decode, progress=progress)
    fail_on(problems, "fix these files, or remove each image together with its mask")


def summarize_images(source: SemanticSource, *, decode: bool = False, progress: bool = True) -> ImageOverview:
    """Check all parts of a source like `check_images`, and summarize them without raising."""
    images, pixels, problems = {}, {}, []
    turned: dict[str, int] = {}
    for part, files in source.parts.items():
        found, tags, counts = _check_files(source, files, decode=decode, progress=progress)
        problems += found
        turned |= tags
        images[part] = len(files)
        pixels[part] = {name: int(count) for name, count in zip(source.classes, counts, strict=False)}
        pixels[part]["(not scored)"] = int(counts[IGNORE])
    return ImageOverview(images, pixels if decode else None, turned_notes(turned), tuple(problems))


def _check_files(
    source: SemanticSource, files: Sequence[ImageFiles], *, decode: bool, progress: bool
) -> tuple[list[str], dict[str, int], NDArray[np.int64]]:
    """Return a sentence for each problem, EXIF orientations by image id, and the pixels of each label `[256]`."""

    def check(one: ImageFiles) -> tuple[str | None, int, NDArray[np.int64] | None]:
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
            for one, (problem, orientation, counts) in zip(group, pool.map(check, group), strict=True):
                if orientation != 1:
                    turned[one.id] = orientation
                if problem is not None:
                    problems.append(problem)
                if counts is not None:
                    total += counts
    return problems, turned, total
