"""IDX files, as MNIST and its family are published in: `train-images-idx3-ubyte`, packed with gzip or not.

A header of big-endian numbers (two zero bytes, a type code, the number of dimensions, their lengths of four bytes each)
and then the values, last dimension fastest.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewpairs.data.atomic import atomic_path
from fewpairs.data.files import listed
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.classification.source import Indices, LabelledSource

_NAME = re.compile(
    r"(?P<prefix>.*?)[-_.]?(?P<part>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx[134][-_.]ubyte(\.gz)?"
)
_UBYTE = 0x08
_BLOCK = 1 << 20

Bytes = NDArray[np.uint8]


class IdxArray:
    """The values of an IDX file of unsigned bytes, with `dimensions` dimensions.

    An unpacked file is mapped into memory. A packed one is unpacked: into `cache`, from where all processes map it, or
    without a cache into this process and those forked from it. Copies sent to other processes open the file again.

    Raises:
        DataError: the file is missing, truncated or too long, or its header says something else.
    """

    def __init__(self, path: Path, dimensions: int, cache: Path | None = None) -> None:
        self.path, self.dimensions, self.cache = path, dimensions, cache
        self.values = _mapped(_unpacked(path, cache), dimensions) if packed(path) and cache else _read(path, dimensions)

    def __reduce__(self) -> tuple[type[IdxArray], tuple[Path, int, Path | None]]:
        return IdxArray, (self.path, self.dimensions, self.cache)


class IdxPart:
    """The images `[n H W]` of one file with the labels `[n]` of another; ids are `train/17`."""

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
        name: what the file names begin with, where `root` holds several sets: `emnist-letters`.
        classes: names of the labels 0, 1, ...; by default the labels that occur, as numbers.
        cache: folder for unpacked files.

    Raises:
        InputError: no such files, several sets, or fewer names than labels.
        DataError: a damaged file, or another number of labels than of images.
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
    """The files of one data set by part (`train` or `test`) and content (`images` or `labels`), unpacked preferred.

    Raises:
        InputError: there are none, or of several sets.
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
    """Whether files of the MNIST family lie in the folder `root`."""
    return any(_NAME.fullmatch(path.name) for path in root.iterdir())


def packed(path: Path) -> bool:
    """Whether the file is packed with gzip."""
    return path.suffix == ".gz"


def _numbered(labels: Indices, values: NDArray[np.int64], root: Path) -> Indices:
    """Labels as stored -> their places in the sorted `values`."""
    unknown = sorted(set(np.unique(labels).tolist()) - set(values.tolist()))
    if unknown:
        raise DataError(
            f"{root} has images of the labels {listed([str(label) for label in unknown])}, "
            f"but classes for {listed([str(value) for value in values])} alone"
        )
    return np.searchsorted(values, labels).astype(np.int64)


def _read(path: Path, dimensions: int) -> Bytes:
    if not packed(path):
        return _mapped(path, dimensions)
    blocks, shape, size = [], None, 0
    for block in _blocks(path):
        blocks.append(block)
        size += len(block)
        if shape is None:
            shape, offset = parse_header(block, dimensions, path)
            expected = offset + int(np.prod(shape, dtype=object))
        if size > expected:
            break
    if shape is None:
        raise DataError(f"{path} is empty")
    _check_size(path, shape, size, expected)
    return np.frombuffer(b"".join(blocks), np.uint8, offset=offset).reshape(shape)


def _mapped(path: Path, dimensions: int) -> Bytes:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            shape, offset = parse_header(file.read(4 + 4 * dimensions), dimensions, path)
        _check_size(path, shape, size, offset + int(np.prod(shape, dtype=object)))
        return np.memmap(path, np.uint8, "r", offset, shape)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None


def parse_header(head: bytes, dimensions: int, path: Path) -> tuple[tuple[int, ...], int]:
    """Shape of the values and where they begin.

    Raises:
        DataError: no IDX header, values that are no unsigned bytes, another number of dimensions, or an empty one.
    """
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(f"{path} is no IDX file: it begins with {head[:4].hex(' ') or 'nothing'}, not with 00 00")
    if head[2] != _UBYTE:
        raise DataError(f"{path} holds values of the IDX type 0x{head[2]:02x}; unsigned bytes (0x08) are read")
    if head[3] != dimensions:
        kind = "labels" if dimensions == 1 else "grey images"
        raise DataError(f"{path} has {head[3]} dimensions; {kind} have {dimensions}")
    offset = 4 + 4 * dimensions
    if len(head) < offset:
        raise DataError(f"{path} ends within its header; the file is truncated")
    shape = struct.unpack(f">{dimensions}I", head[4:offset])
    if 0 in shape:
        raise DataError(f"{path} is empty: its shape is {' x '.join(map(str, shape))}")
    return shape, offset


def _check_size(path: Path, shape: tuple[int, ...], size: int, expected: int) -> None:
    if size != expected:
        wrong = "is truncated" if size < expected else "goes on after its end"
        raise DataError(f"{path} {wrong}: {' x '.join(map(str, shape))} values and a header are {expected} bytes")


def _blocks(path: Path) -> Iterator[bytes]:
    """The unpacked content of a packed file."""
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, zlib.error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be unpacked ({reason}); the file is damaged or truncated") from None


def _unpacked(path: Path, cache: Path) -> Path:
    """The file in `cache` with the unpacked content, written at first use and whenever `path` has changed."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    told = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    target = cache / f"{path.stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    if not target.is_file():
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            for block in _blocks(path):
                file.write(block)
    return target
