"""The interface of every data set of scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fewpairs.kinds.segmentation.bitmask import BitMask
from fewpairs.kinds.segmentation.label_values import Values
from fewpairs.types import Size, Spacing

SUFFIXES = (".nii.gz", ".nii")
"""Suffixes of NIfTI volumes."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """The files of one scan, listed before any pixel is read."""

    id: str
    case: str
    """The patient: splits never separate the scans of one case."""
    files: tuple[Path, ...]
    """Every file that `Source.read` opens for this scan; when one changes, a prepared store is stale."""
    slice_ids: tuple[str, ...]
    size: Size
    spacing: Spacing
    numbers: tuple[int, ...] | None = None
    """Number of each slice if some slices between them are missing; None if they lie side by side."""


class Source(Protocol):
    """A data set in one layout on disk.

    `values` has the label values of each class, None if masks are stored in another way. With `ignores`, bit masks have
    one bit more, after those of the classes, for voxels that are neither trained on nor scored.

    `options` holds everything besides the files that `read` depends on (plain JSON); `shared_files` are files that
    belong to all scans, such as a table of labels. `notes` are sentences about oddities that `scans` found.
    """

    @property
    def root(self) -> Path: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def values(self) -> Values | None: ...
    @property
    def ignores(self) -> bool: ...
    @property
    def options(self) -> dict[str, Json]: ...
    @property
    def shared_files(self) -> tuple[Path, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def scans(self) -> list[ScanFiles]:
        """Check the layout and list all scans, ordered by case and scan.

        Raises:
            DataError: files are missing, misnamed or contradictory.
        """
        ...

    def read(self, scan: ScanFiles) -> tuple[NDArray[Any], BitMask]:
        """Read the image `[s c H W]` in its stored dtype and the bit mask `[s H W]` (bit j = class j, bit k = ignored).

        Raises:
            DataError: a file is damaged or contradicts its label.
        """
        ...


def volume_stem(path: Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem
