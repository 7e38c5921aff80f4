"""Check of all images before training, with a cache of the files that were found complete."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.pictures import check_file, turned_notes
from fewpairs.data.progress import track
from fewpairs.errors import DataError
from fewpairs.kinds.classification.source import Indices, LabelledSource
from fewpairs.writing import ABANDONED_SECONDS, atomic_path, remove_leftovers

SHOWN = 100
"""Maximum number of damaged images in a message."""

_TOGETHER = 512
_THREADS = 8

Prints = NDArray[np.uint64]


class DamagedImagesError(DataError):
    """Error on images that cannot be read; `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str], checked: int, name: str) -> None:
        self.problems = tuple(problems)
        shown = "".join(f"\n  {problem}" for problem in self.problems[:SHOWN])
        more = f"\n  and {len(self.problems) - SHOWN} more" if len(self.problems) > SHOWN else ""
        super().__init__(
            f"{len(self.problems)} of {checked} images of {name} cannot be read; fix or delete them:{shown}{more}"
        )


def check_images(
    source: LabelledSource,
    indices: Indices | None = None,
    *,
    decode: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[str, ...]:
    """Check the images of a source, or those of `indices`, and name all damaged ones in one error.

    The result are notes on harmless oddities.

    By default headers and ends of files are read, which finds files that are empty, truncated or no pictures; `decode`
    decodes every pixel. Data sets that keep all images in one file are checked when they are opened, and their images
    one by one with `decode` alone.

    Args:
        cache: folder that remembers which files, of which size and date, were found whole.

    Raises:
        DamagedImagesError: images cannot be read.
    """
    numbers = np.arange(len(source), dtype=np.int64) if indices is None else indices
    problems, turned = find_damage(source, numbers, decode=decode, cache=cache, progress=progress)
    if problems:
        raise DamagedImagesError(problems, len(numbers), source.name)
    return turned_notes(turned, shown=1)


def find_damage(
    source: LabelledSource, indices: Indices, *, decode: bool, cache: Path | None, progress: bool
) -> tuple[list[str], dict[str, int]]:
    """Return a sentence for each damaged image, and the EXIF orientation of each turned one. See `check_images`."""
    known = {whole: _load(cache, whole) for whole in (True, False)}
    enough = known[True] if decode else np.union1d(known[True], known[False])
    work = _Work(source, decode, enough)
    problems: list[str] = []
    turned: dict[str, int] = {}
    whole: list[Prints] = []
    groups = [indices[start : start + _TOGETHER] for start in range(0, len(indices), _TOGETHER)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in track(groups, f"checking {len(indices)} images", enabled=progress):
            found = list(zip(group.tolist(), pool.map(work, group.tolist()), strict=True))
            problems += [looked.problem for _, looked in found if looked.problem is not None]
            turned |= {source.id(number): looked.orientation for number, looked in found if looked.orientation != 1}
            whole.append(np.array([looked.print for _, looked in found if looked.print], np.uint64))
    good = np.concatenate([np.empty(0, np.uint64), *whole])
    if cache is not None and not np.isin(good, enough).all():
        _save(cache, decode, np.union1d(known[decode], good))
    return problems, turned


class _Looked(NamedTuple):
    """Error of an image, its EXIF orientation, and the fingerprint of its own complete file without one, else 0."""

    problem: str | None = None
    orientation: int = 1
    print: int = 0


class _Work:
    """Check of an image by its index; files that are known to be complete are not opened."""

    def __init__(self, source: LabelledSource, decode: bool, known: Prints) -> None:
        self.source, self.decode = source, decode
        self.known = known

    def __call__(self, number: int) -> _Looked:
        path = self.source.file(number)
        try:
            if path is None:
                if self.decode:
                    self.source.read(number)
                return _Looked()
            fingerprint = _fingerprint(path)
            place = np.searchsorted(self.known, np.uint64(fingerprint))
            if place == len(self.known) or int(self.known[place]) != fingerprint:
                orientation = check_file(path, decode=self.decode).orientation
                return _Looked(None, orientation, fingerprint if orientation == 1 else 0)  # turned ones are told again
        except DataError as error:
            return _Looked(str(error))
        return _Looked(None, 1, fingerprint)


def _fingerprint(path: Path) -> int:
    """Return 64 bits from path, size and date of a file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    told = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little")


def _file(cache: Path, decoded: bool) -> Path:
    return cache / f"whole-{'pixels' if decoded else 'files'}.npy"


def _load(cache: Path | None, decoded: bool) -> Prints:
    """Read sorted fingerprints; return none if the file is missing or damaged."""
    none = np.empty(0, np.uint64)
    if cache is None or not _file(cache, decoded).is_file():
        return none
    try:
        stored: Any = np.load(_file(cache, decoded), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return none
    return np.unique(stored) if stored.dtype == np.uint64 and stored.ndim == 1 else none


def _save(cache: Path, decoded: bool, fingerprints: Prints) -> None:
    remove_leftovers(cache, before=time.time() - ABANDONED_SECONDS)
    try:
        with atomic_path(_file(cache, decoded)) as temporary:
            np.save(temporary, fingerprints, allow_pickle=False)
    except DataError:
        return  # a cache that cannot be written costs another look at the next start, and no more
