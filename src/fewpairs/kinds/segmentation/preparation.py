"""Builds the store of a source, or opens the existing one if it is up to date."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fewpairs.data.progress import track
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import BitMask
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.label_values import class_bits, ignored_voxels, mask_dtype
from fewpairs.kinds.segmentation.source import ScanFiles, Source
from fewpairs.kinds.segmentation.store import FORMAT, IMAGES, MASKS, Store, StoredScan, checksum, write_index

VERIFIED_BYTES = 512 * 1024**2
_ALIGNMENT = 64
_BUILDING = ".building-"


def prepare(source: Source, cache_dir: Path | str, *, progress: bool = True, verify: bool | None = None) -> Store:
    """Open the store of `source` below `cache_dir`; build it first if it is absent, stale or damaged.

    A store belongs to the options of the source and to the path, size and modification time of each of its files; when
    one of these changes, a new store replaces the old one. A store is built in a temporary folder under a lock and then
    renamed, so several processes may call this at once, and an interrupted build leaves no incomplete store.

    Args:
        progress: report on standard error.
        verify: compare the checksums of all pixels of an existing store; by default only if it has at most 512 MiB
            (the files of larger ones are only checked for their size).

    Raises:
        DataError: a source file is wrong or the cache folder cannot be written.
    """
    cache_dir = Path(cache_dir)
    scans = source.scans()
    _check_unique(scans)
    identity, state = _fingerprint(source, scans)
    path = cache_dir / f"{identity}-{state}"
    return _open_intact(path, verify) or _built(source, scans, path, identity, verify, progress)


def _built(
    source: Source, scans: list[ScanFiles], path: Path, identity: str, verify: bool | None, progress: bool
) -> Store:
    """Build the store at `path`, unless another process has done so."""
    cache_dir = path.parent
    with _writing(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / ".lock"):
            store = _open_intact(path, verify)
            if store is not None:
                return store
            for abandoned in cache_dir.glob(f"{_BUILDING}*"):
                shutil.rmtree(abandoned)
            temporary = Path(tempfile.mkdtemp(dir=cache_dir, prefix=_BUILDING))
            try:
                _build(source, scans, temporary, progress)
                for stale in cache_dir.glob(f"{identity}-*"):
                    shutil.rmtree(stale)
                temporary.chmod(0o755)
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return Store(path)


@contextmanager
def _writing(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the prepared data to {cache_dir}: {error.strerror or error}; "
            "name a cache folder that is writable and has enough space"
        ) from error


def _open_intact(path: Path, verify: bool | None) -> Store | None:
    """Open the store at `path`; None if it is absent or damaged."""
    try:
        store = Store(path)
        size = sum((path / name).stat().st_size for name in (IMAGES, MASKS))
        if verify or (verify is None and size <= VERIFIED_BYTES):
            store.verify()
    except (DataError, OSError):
        return None
    return store


def _fingerprint(source: Source, scans: list[ScanFiles]) -> tuple[str, str]:
    """Return a digest of the data set (root and options) and one of the state of its files."""
    root = source.root.resolve()
    who = {"root": str(root), "options": source.options}
    files = sorted({*source.shared_files, *(path for scan in scans for path in scan.files)})
    try:
        state = [[str(path), (found := path.stat()).st_size, found.st_mtime_ns] for path in files]
    except OSError as error:
        raise DataError(f"{error.filename} is missing or cannot be read: {error.strerror}") from None
    return _digest(who), _digest([FORMAT, who, state])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_unique(scans: list[ScanFiles]) -> None:
    if not scans:
        raise DataError("the data set holds no scans")
    seen: set[str] = set()
    for scan in scans:
        if scan.id in seen:
            raise DataError(f"the scan {scan.id} is listed twice (first file {scan.files[0]}); rename one")
        seen.add(scan.id)


@dataclass
class _Writer:
    """Appends arrays to a file at aligned offsets."""

    file: BinaryIO
    offset: int = 0

    def append(self, array: NDArray[Any]) -> int:
        padding = -self.offset % _ALIGNMENT
        self.file.write(bytes(padding))
        start = self.offset + padding
        array.tofile(self.file)
        self.offset = start + array.nbytes
        return start


def _build(source: Source, scans: list[ScanFiles], folder: Path, progress: bool) -> None:
    classes, stored = len(source.classes), []
    dtype = mask_dtype(classes, ignores=source.ignores)
    with (folder / IMAGES).open("wb") as image_file, (folder / MASKS).open("wb") as mask_file:
        images, masks = _Writer(image_file), _Writer(mask_file)
        for scan in track(scans, f"preparing {source.root.name}", enabled=progress):
            image, mask = source.read(scan)
            image = np.ascontiguousarray(image, _storable(image.dtype))
            mask = np.ascontiguousarray(mask, dtype.newbyteorder("<"))
            shape = (len(scan.slice_ids), source.channels, *scan.size)
            if image.shape != shape or mask.shape != (shape[0], *scan.size):
                raise InputError(
                    f"{type(source).__name__}.read({scan.id}) gave the shapes {image.shape} and {mask.shape} instead "
                    f"of {shape} and {(shape[0], *scan.size)}"
                )
            stored.append(
                StoredScan(
                    id=scan.id,
                    case=scan.case,
                    size=scan.size,
                    spacing=scan.spacing,
                    slice_ids=scan.slice_ids,
                    statistics=intensity_statistics(image),
                    empty=tuple(not labelled.any() for labelled in class_bits(mask, classes)),
                    ignored=_ignored(mask, classes) if source.ignores else (0,) * len(mask),
                    voxels=tuple(int(np.count_nonzero(mask & dtype.type(1 << j))) for j in range(classes)),
                    dtype=image.dtype.str,
                    image_offset=images.append(image),
                    mask_offset=masks.append(mask),
                    image_checksum=checksum(image),
                    mask_checksum=checksum(mask),
                    numbers=scan.numbers,
                )
            )
        sizes = {IMAGES: images.offset, MASKS: masks.offset}
    write_index(folder, source, stored, sizes)


def _ignored(mask: BitMask, classes: int) -> tuple[int, ...]:
    return tuple(ignored_voxels(mask, classes).sum(axis=(1, 2)).tolist())


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the stored dtype: little-endian and at most 4 bytes; wider numbers become float32."""
    return np.dtype("<f4") if dtype.itemsize > 4 else dtype.newbyteorder("<")
