"""A decoded, memory-mapped copy of a data set: built once, then read without decoding anything.

A store is a folder with three files. `images.bin` and `masks.bin` hold the scans one after the other; `index.json` has
their positions and all other facts about them. A store never changes: `prepare` builds another when the sources change.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.errors import DataError, InputError, nearest
from fewpairs.kinds.segmentation.bitmask import BitMask
from fewpairs.kinds.segmentation.intensity import IntensityStatistics
from fewpairs.kinds.segmentation.label_values import Values, mask_dtype
from fewpairs.kinds.segmentation.source import Source
from fewpairs.types import Size, Spacing

FORMAT = 3
IMAGES, MASKS, INDEX = "images.bin", "masks.bin", "index.json"


@dataclass(frozen=True, slots=True)
class StoredScan:
    """One scan of a store, without its pixels."""

    id: str
    case: str
    size: Size
    spacing: Spacing
    slice_ids: tuple[str, ...]
    statistics: IntensityStatistics
    empty: tuple[bool, ...]
    """Whether each slice is without any class."""
    ignored: tuple[int, ...]
    """Voxels of each slice that are neither trained on nor scored."""
    voxels: tuple[int, ...]
    """Voxels of every class."""
    dtype: str
    image_offset: int
    mask_offset: int
    image_checksum: int
    mask_checksum: int
    numbers: tuple[int, ...] | None = None
    """Number of each slice if some slices between them are missing; None if they lie side by side."""

    @property
    def slices(self) -> int:
        return len(self.slice_ids)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> StoredScan:
        """Invert `dataclasses.asdict` after a round trip through JSON."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        fields["statistics"] = IntensityStatistics(**{name: tuple(v) for name, v in stored["statistics"].items()})
        return cls(**fields)


class Store:
    """A prepared data set. Opening it reads `index.json` only; pixels are mapped into memory on first use.

    Pickling a store (for data-loader workers) sends its path and index, never pixels or open files.

    Raises:
        DataError: the folder is not a complete store of this format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        index = read_index(self.path)
        self.classes: tuple[str, ...] = tuple(index["classes"])
        self.channels: int = index["channels"]
        self.ignores: bool = index["ignores"]
        """Whether voxels may be neither trained on nor scored; they have the bit after those of the classes."""
        self.values: Values | None = None if index["values"] is None else tuple(map(tuple, index["values"]))
        """The label values of each class in the data set; None if its masks have no numbers."""
        self.scans: tuple[StoredScan, ...] = tuple(StoredScan.from_json(scan) for scan in index["scans"])
        self._bytes: dict[str, int] = index["bytes"]
        for name in (IMAGES, MASKS):
            self._check_size(name)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_images", "_masks")}

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}: {len(self.scans)} scans, {len(self.cases)} cases, classes {self.classes})"

    @property
    def cases(self) -> tuple[str, ...]:
        """All cases, in the order of their first scan."""
        return tuple(dict.fromkeys(scan.case for scan in self.scans))

    @property
    def slices(self) -> int:
        """Slices of all scans together."""
        return sum(scan.slices for scan in self.scans)

    def image(self, index: int) -> NDArray[Any]:
        """Image `[s c H W]` of scan `index` in its stored dtype: a read-only view of the file."""
        self._check_size(IMAGES)
        scan = self.scans[index]
        shape = (scan.slices, self.channels, *scan.size)
        return _view(self._images, scan.image_offset, shape, np.dtype(scan.dtype))

    def mask(self, index: int) -> BitMask:
        """Bit mask `[s H W]` of scan `index` (bit j = class j, bit k = ignored): a read-only view of the file."""
        self._check_size(MASKS)
        scan = self.scans[index]
        return _view(self._masks, scan.mask_offset, (scan.slices, *scan.size), self._mask_dtype)

    def of_cases(self, cases: Sequence[str]) -> list[int]:
        """Return the indices of the scans of `cases`, in the order of the store.

        Raises:
            InputError: the store does not have a case, or no case is given.
        """
        for case in cases:
            if case not in self.cases:
                raise InputError(f"the data set has no case {case!r}; {nearest(case, self.cases)}")
        if not cases:
            raise InputError("no cases given; a data set needs at least one")
        wanted = set(cases)
        return [index for index, scan in enumerate(self.scans) if scan.case in wanted]

    def entries(self, cases: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield name and pixels, and labels of each scan of `cases`, as `PartIdentity.of` takes them."""
        for scan in (self.scans[index] for index in self.of_cases(cases)):
            yield f"{scan.case}/{scan.id} {scan.image_checksum:08x}", scan.mask_checksum.to_bytes(4, "little")

    def verify(self) -> None:
        """Read everything and compare checksums.

        Raises:
            DataError: the stored pixels of a scan are damaged.
        """
        for index, scan in enumerate(self.scans):
            if checksum(self.image(index)) != scan.image_checksum or checksum(self.mask(index)) != scan.mask_checksum:
                raise DataError(f"{self.path}: the stored pixels of scan {scan.id} are damaged")

    def _check_size(self, name: str) -> None:
        """Raise DataError if a file is not as long as when it was written: reading beyond its end kills the process."""
        file, wanted = self.path / name, self._bytes[name]
        try:
            found = os.stat(file).st_size
        except OSError:
            found = None
        if found != wanted:
            raise DataError(
                f"{file} has {found} bytes instead of {wanted}: the store is truncated or gone; the next start builds "
                "it again"
            )

    @property
    def _mask_dtype(self) -> np.dtype[Any]:
        return mask_dtype(len(self.classes), ignores=self.ignores).newbyteorder("<")

    @cached_property
    def _images(self) -> np.memmap[Any, Any]:
        return np.memmap(self.path / IMAGES, np.uint8, "r")

    @cached_property
    def _masks(self) -> np.memmap[Any, Any]:
        return np.memmap(self.path / MASKS, np.uint8, "r")


def checksum(pixels: NDArray[Any]) -> int:
    """Compute the CRC-32 of the bytes of a contiguous array."""
    return zlib.crc32(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)


def _view(raw: np.memmap[Any, Any], offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    length = int(np.prod(shape)) * dtype.itemsize
    return np.asarray(raw)[offset : offset + length].view(dtype).reshape(shape)


def write_index(folder: Path, source: Source, scans: Sequence[StoredScan], sizes: dict[str, int]) -> None:
    """Write `index.json`, which makes the folder a store; its last field is a checksum of all others."""
    index = {
        "format": FORMAT,
        "classes": list(source.classes),
        "values": source.values,
        "ignores": source.ignores,
        "channels": source.channels,
        "bytes": sizes,
        "scans": [asdict(scan) for scan in scans],
    }
    (folder / INDEX).write_text(json.dumps({**index, "checksum": _digest(index)}), encoding="utf-8")


def read_index(folder: Path) -> dict[str, Any]:
    """Read `index.json`.

    Raises:
        DataError: the file is missing, damaged or has another format.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        found = index.pop("checksum")
    except FileNotFoundError:
        raise DataError(f"{folder} is not a prepared store: it has no {INDEX}") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error})") from None
    if index.get("format") != FORMAT or found != _digest(index):
        raise DataError(f"{path} is damaged, or was written by another version of fewpairs")
    return index


def _digest(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
