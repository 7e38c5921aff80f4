"""Checks of images and masks before training: damaged files, mismatched sizes, and the pixels of each class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.files import fail_on, listed
from fewpairs.data.pictures import read_header, read_indices, read_mask_header, turned_notes
from fewpairs.data.progress import track
from fewpairs.errors import DataError
from fewpairs.kinds.semantic.labels import NumberReading
from fewpairs.kinds.semantic.source import ImageFiles, SemanticSource, size_mismatch
from fewpairs.types import IGNORE

_THREADS = 8
_TOGETHER = 256
_AT_ONCE = 16
"""Number of masks between two looks at whether all classes were seen."""
_LOOKED_AT = 64
"""Number of masks whose numbers a message lists, and number of classes that it spells out."""


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
) -> tuple[str, ...]:
    """Check images and masks, by default their format and size in the headers; `decode` reads every pixel and label.

    The result are notes on harmless oddities.

    Raises:
        DataError: some are damaged or do not fit together; one message names all.
    """
    problems, turned, _ = _check_files(source, files, decode=decode, progress=progress)
    fail_on(problems, "fix these files, or remove each image together with its mask")
    return turned_notes(turned, shown=1)


def check_classes(source: SemanticSource, *, progress: bool = True) -> tuple[str, ...]:
    """Read masks until every class was seen; return a note if a class of the layout has no pixel in any of them.

    Masks of the training part come first, spread over the part.

    Raises:
        DataError: a mask cannot be read, or no mask has a pixel of a class that the user named, or of two classes.
    """
    counts = np.zeros(IGNORE + 1, np.int64)
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in track(_spread(source), f"looking for {len(source.classes)} classes in masks", enabled=progress):
            for one in pool.map(lambda files: source.reading(files.mask), group):
                counts += np.bincount(one.ravel(), minlength=IGNORE + 1)
            if counts[: len(source.classes)].all():
                return ()
    failure = absent_classes(source, counts)
    if failure is not None and (source.named or np.count_nonzero(counts[: len(source.classes)]) < 2):
        raise DataError(failure)
    return (failure,) if failure else ()


def absent_classes(source: SemanticSource, counts: NDArray[np.int64]) -> str | None:
    """Return a sentence on the classes without a pixel in `counts` `[256]` of all masks, with the remedy."""
    absent = [name for name, count in zip(source.classes, counts, strict=False) if not count]
    if not absent:
        return None
    files = [one for part in source.parts.values() for one in part]
    said = f"{source.name}: none of {len(files)} masks has a pixel of {listed(absent)}"
    remedy = "correct the stored numbers, name only classes that occur (data.source.classes), or set data.check=none"
    if isinstance(source.reading, NumberReading):
        stored = sorted({int(value) for one in files[:_LOOKED_AT] for value in np.unique(read_indices(one.mask))})
        unscored = [value for value in stored if source.reading.table.get(value) == IGNORE]
        said += f"; the numbers in {'them' if len(files) <= _LOOKED_AT else f'the first {_LOOKED_AT}'} are "
        said += listed([str(value) for value in stored])
        if unscored:
            said += f", of which {listed([str(value) for value in unscored])} is not scored (data.source.ignore)"
            remedy = f"{_as_class(source.classes, absent[-1], unscored[-1])}; otherwise {remedy}"
    return f"{said}; {remedy}"


def _as_class(classes: Sequence[str], name: str, number: int) -> str:
    """Return the settings with which the stored `number`, which is not scored so far, is the class `name`."""
    numbers = {known: place for place, known in enumerate(classes[:_LOOKED_AT])} | {name: number}
    mapping = ", ".join(f"{known}: {value}" for known, value in numbers.items())
    ways = f'data.source.classes="{{{mapping}}}"' + (" or data.source.nonzero=true" if len(classes) == 2 else "")
    return f"if {number} is the class, as in binary masks of 0 and 255, say {ways}"


def _spread(source: SemanticSource) -> list[list[ImageFiles]]:
    """Return the images of all parts in groups, those of each part in a fixed random order."""
    order: list[ImageFiles] = []
    for files in source.parts.values():
        order += [files[place] for place in np.random.default_rng(0).permutation(len(files))]
    return [order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE)]


def summarize_images(source: SemanticSource, *, decode: bool = False, progress: bool = True) -> ImageOverview:
    """Check all parts of a source like `check_images`, and summarize them without raising."""
    images, pixels, problems = {}, {}, []
    notes: tuple[str, ...] = ()
    turned: dict[str, int] = {}
    for part, files in source.parts.items():
        found, tags, counts = _check_files(source, files, decode=decode, progress=progress)
        problems += found
        turned |= tags
        images[part] = len(files)
        pixels[part] = {name: int(count) for name, count in zip(source.classes, counts, strict=False)}
        pixels[part]["(not scored)"] = int(counts[IGNORE])
    if not problems:
        try:
            notes = check_classes(source, progress=progress)
        except DataError as error:
            problems.append(str(error))
    notes = (*source.notes, *turned_notes(turned), *notes)
    return ImageOverview(images, pixels if decode else None, notes, tuple(problems))


def _check_files(
    source: SemanticSource, files: Sequence[ImageFiles], *, decode: bool, progress: bool
) -> tuple[list[str], dict[str, int], NDArray[np.int64]]:
    """Return a sentence for each problem, EXIF orientations by image id, and the pixels of each label `[256]`."""

    def check(one: ImageFiles) -> tuple[str | None, int, NDArray[np.int64] | None]:
        try:
            header = read_header(one.image)
            if decode:
                return None, header.orientation, np.bincount(source.read(one)[1].ravel(), minlength=IGNORE + 1)
            if header.size != (mask := read_mask_header(one.mask).size):
                raise size_mismatch(one, header, mask)
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
