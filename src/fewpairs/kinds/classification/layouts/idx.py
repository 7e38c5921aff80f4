"""IDX files, the format of MNIST and its family: `train-images-idx3-ubyte`, packed with gzip or not.

The header is checked against the length of the file, whose pixels are then mapped into memory, so that all processes
share them.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import struct
import time
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewpairs.data.files import listed
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource
from fewpairs.writing import ABANDONED_SECONDS, atomic_path, remove_leftovers

_NAME = re.compile(
    r"(?P<prefix>.*?)[-_.]?(?P<part>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx[134][-_.]ubyte(\.gz)?"
)
_MOST = 3
"""Largest number of dimensions."""
_HEAD = 4 + 4 * _MOST
_BYTES = {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}
"""Bytes of a value by the type that the header names."""
_PART = 2**20
"""Bytes that are unpacked at once."""


class IdxArray:
    """Values of an IDX file of unsigned bytes with `dimensions` dimensions, mapped into memory.

    A packed file is unpacked into `cache`, by default a temporary file. Copies in other processes map the file again.

    Raises:
        DataError: the file is missing, truncated or too long, or its header does not fit.
    """

    def __init__(self, path: Path, dimensions: int, cache: Path | None = None) -> None:
        self.path, self.dimensions, self.cache = path, dimensions, cache
        with TemporaryDirectory(prefix="fewpairs-") as folder:
            plain = _unpacked(path, cache or Path(folder)) if path.suffix == ".gz" else path
            self.values = _mapped(plain, dimensions, path)

    def __reduce__(self) -> tuple[type[IdxArray], tuple[Path, int, Path | None]]:
        return IdxArray, (self.path, self.dimensions, self.cache)


class IdxPart:
    """Images `[n H W]` of one file with the labels `[n]` of another; ids are `train/17`."""

    def __init__(self, name: str, images: IdxArray, labels: Indices) -> None:
        self.name, self.images, self.labels = name, images, labels

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(np.asarray(self.images.values[index]))

    def id(self, index: int) -> str:
        return f"{self.name}/{index}"

    def file(self, index: int) -> None:
        return None


def open_idx(
    root: Path, *, name: str | None = None, classes: tuple[str, ...] | None = None, cache: Path | None = None
) -> LabelledSource:
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same for `t10k` or `test`, with or without `.gz`.

    Args:
        name: start of the file names if `root` holds several sets, such as `emnist-letters`.
        classes: names of the labels 0, 1, ...; by default the labels that occur, as numbers.
        cache: folder for unpacked files.

    Raises:
        InputError: the files are missing, belong to several sets, or there are fewer names than labels.
        DataError: a file is damaged, or the numbers of labels and images differ.
    """
    found = find_idx(root, name)
    raw: dict[str, tuple[IdxArray, Indices]] = {}
    for part in ("train", "test"):
        if (part, "images") not in found and part == "test":
            continue
        pair = [found.get((part, what)) for what in ("images", "labels")]
        if pair[0] is None or pair[1] is None:
            missing = "images" if pair[0] is None else "labels"
            raise InputError(f"{root} has no {part}-{missing}-idx file; IDX data sets have images and labels")
        images, labels = IdxArray(pair[0], 3, cache), IdxArray(pair[1], 1, cache)
        if len(images.values) != len(labels.values):
            raise DataError(f"{pair[0]} holds {len(images.values)} images, but {pair[1]} {len(labels.values)} labels")
        raw[part] = images, np.asarray(labels.values, np.int64)
    values = np.unique(raw["train"][1])
    if classes is None:
        names = tuple(str(value) for value in values)
    else:
        names, values = classes, np.arange(len(classes))
    parts = {part: IdxPart(part, images, _numbered(labels, values, root)) for part, (images, labels) in raw.items()}
    return LabelledSource(str(root), names, parts, channels=1)


def find_idx(root: Path, name: str | None = None) -> dict[tuple[str, str], Path]:
    """Find the files of one data set by part (`train`, `test`) and content (`images`, `labels`), preferably unpacked.

    Raises:
        InputError: there are no files, or files of several sets.
    """
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(root.iterdir(), reverse=True):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            part = "train" if match["part"] == "train" else "test"
            found.setdefault(match["prefix"], {})[part, match["what"]] = path
    if name is not None:
        found = {prefix: files for prefix, files in found.items() if prefix == name}
    if not found:
        called = f" that begin with {name!r}" if name else ""
        raise InputError(f"{root} holds no IDX files{called} (train-images-idx3-ubyte, also with .gz)")
    if len(found) > 1:
        raise InputError(f"{root} holds several data sets: {listed(sorted(found))}; choose one with name=")
    return next(iter(found.values()))


def holds_idx(root: Path) -> bool:
    """Return whether the folder `root` holds IDX files."""
    return any(_NAME.fullmatch(path.name) for path in root.iterdir())


def _numbered(labels: Indices, values: NDArray[np.int64], root: Path) -> Indices:
    """Convert stored labels to their indices in the sorted `values`."""
    unknown = sorted(set(np.unique(labels).tolist()) - set(values.tolist()))
    if unknown:
        raise DataError(
            f"{root} has images of the labels {listed([str(label) for label in unknown])}, "
            f"but classes for {listed([str(value) for value in values])} alone"
        )
    return np.searchsorted(values, labels).astype(np.int64)


def _mapped(path: Path, dimensions: int, named: Path) -> NDArray[np.uint8]:
    """Map the values of an unpacked file; messages call it `named`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{named} cannot be read ({error.strerror or error})") from None
    shape, claimed = _claim(head)
    if claimed != size or 0 in shape:
        raise _not_whole(named, head, f"{size} bytes")
    if head[2] != 8:
        raise DataError(f"{named} holds values of the IDX type 0x{head[2]:02x}; unsigned bytes (0x08) are read")
    if len(shape) != dimensions:
        kind = "labels" if dimensions == 1 else "grey images"
        raise DataError(f"{named} has {len(shape)} dimensions; {kind} have {dimensions}")
    return np.memmap(path, np.uint8, "r", 4 + 4 * dimensions, shape)


def _claim(head: bytes) -> tuple[tuple[int, ...], int | None]:
    """Return the shape that the beginning of a file gives, and the bytes of the whole file; None if it is not IDX."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _BYTES or not 1 <= head[3] <= _MOST:
        return (), None
    start = 4 + 4 * head[3]
    if len(head) < start:
        return (), None
    shape = struct.unpack(f">{head[3]}I", head[4:start])
    return shape, start + _BYTES[head[2]] * math.prod(shape)


def _not_whole(named: Path, head: bytes, length: str) -> DataError:
    claimed = _claim(head)[1]
    told = "" if claimed is None else f"; its header claims {claimed}"
    return DataError(
        f"{named} is no whole IDX file: it begins with {head[:4].hex(' ') or 'nothing'} and has {length}; it is "
        f"empty, damaged or truncated, or goes on after its end{told}"
    )


def _unpacked(path: Path, folder: Path) -> Path:
    """Return the unpacked file in `folder`, which is written at first use and whenever `path` has changed."""
    try:
        with path.open("rb"):  # what may not be read is told apart from a cache that may not be written
            status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    told = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    target = folder / f"{path.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    if not target.is_file():
        remove_leftovers(folder, before=time.time() - ABANDONED_SECONDS)
        with atomic_path(target) as temporary:
            try:
                with gzip.open(path, "rb") as packed, temporary.open("wb") as file:
                    head = packed.read(_HEAD)
                    left = max((_claim(head)[1] or 0) - len(head), 0)
                    file.write(head)
                    while part := packed.read(min(left, _PART)):
                        file.write(part)
                        left -= len(part)
                    if packed.read(1):
                        raise _not_whole(path, head, f"more than {file.tell()} bytes")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path} cannot be unpacked ({error}); the file is damaged or truncated") from None
    return target
