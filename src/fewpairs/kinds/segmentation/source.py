"""What every layout of scans offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fewpairs.kinds.segmentation.bitmask import BitMask
from fewpairs.types import Size, Spacing

SUFFIXES = (".nii.gz", ".nii")
"""How the names of NIfTI volumes end."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """One scan as its layout lists it, before any pixel is read."""

    id: str
    case: str
    """The patient: splits never separate the scans of one case."""
    files: tuple[Path, ...]
    """Every file that `Source.read` opens for this scan; a change of one makes a prepared store stale."""
    slice_ids: tuple[str, ...]
    size: Size
    spacing: Spacing


class Source(Protocol):
    """A data set in one layout on disk.

    `options` holds what, besides the files, decides the outcome of `read` (plain JSON); `shared_files` are files that
    belong to all scans, such as a table of labels. `notes` are sentences for people on what `scans` met.
    """

    @property
    def root(self) -> Path: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def options(self) -> dict[str, Json]: ...
    @property
    def shared_files(self) -> tuple[Path, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def scans(self) -> list[ScanFiles]:
        """All scans, ordered by case and scan. Checks the layout.

        Raises:
            DataError: what is missing, misnamed or contradictory.
        """
        ...

    def read(self, scan: ScanFiles) -> tuple[NDArray[Any], BitMask]:
        """Image `[s c H W]` in its stored dtype and bit mask `[s H W]` (bit j = class j).

        Raises:
            DataError: a file that is damaged or contradicts its label.
        """
        ...


def volume_stem(path: Path) -> str:
    """File name without `.nii` or `.nii.gz`."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem
