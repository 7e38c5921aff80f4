"""Readers of images without labels, for prediction: pictures, NIfTI volumes, and scans in the UW-Madison layout."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewpairs.data.pictures import SUFFIXES as PICTURES
from fewpairs.data.pictures import read_header, read_picture
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.layouts.uw_madison import SLICE_THICKNESS, SliceName, slice_id, slice_numbers
from fewpairs.kinds.segmentation.picture_stacks import MILLIMETRE, STACK, read_slices, stack_ids
from fewpairs.kinds.segmentation.source import SUFFIXES, volume_stem
from fewpairs.kinds.segmentation.volumes import Volume
from fewpairs.types import Size, Spacing


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of one scan: a NIfTI volume, a picture, or all given slices of a UW-Madison scan."""

    id: str
    files: tuple[Path, ...]
    slice_ids: tuple[str, ...] | None
    """The ids of slices in the UW-Madison layout or of the pages of a TIFF; those of volumes are made when read."""
    stack: bool = False
    """Whether the slices are pages of one file."""


@dataclass(frozen=True)
class InputImage:
    """One scan and the geometry in which its masks are written."""

    id: str
    files: tuple[Path, ...]
    image: NDArray[Any]
    """`[s c H W]` in the stored dtype."""
    spacing: Spacing
    slice_ids: tuple[str, ...]
    volume: Volume | None
    """The NIfTI header; None for pictures."""
    notes: tuple[str, ...] = ()
    """What should be known of how the files are read."""
    numbers: tuple[int, ...] | None = None
    """Number of each slice in the UW-Madison layout if some between them are missing."""

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return int(self.image.shape[2]), int(self.image.shape[3])

    @property
    def in_uw_layout(self) -> bool:
        """Whether the slices have UW-Madison ids, which a submission needs."""
        return self.volume is None and all(slice_id(path) is not None for path in self.files)


def find_inputs(paths: Iterable[Path | str]) -> list[InputFiles]:
    """List the scans in files and folders, in order of their names; files given twice count once.

    A folder stands for the pictures and NIfTI volumes directly in it, and for all slices of the UW-Madison layout
    anywhere below it. Slices of one UW-Madison scan become one scan.

    Raises:
        InputError: no path is given, a path does not exist or has another suffix, a folder has no images, or two
            inputs have the same name, so that their masks would overwrite each other.
    """
    files: dict[Path, None] = {}
    for path in (Path(given) for given in paths):
        found = _below(path) if path.is_dir() else [path]
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if not found:
            raise InputError(f"{path} holds no images ({', '.join((*SUFFIXES, *PICTURES))})")
        for file in found:
            if not file.name.lower().endswith((*SUFFIXES, *PICTURES)):
                raise InputError(f"{file} is not a readable image ({', '.join((*SUFFIXES, *PICTURES))})")
            files[file.absolute()] = None
    if not files:
        raise InputError("no images given")
    scans: dict[str, dict[str, Path]] = {}
    single: list[InputFiles] = []
    for file in sorted(files):
        name = slice_id(file)
        if name is None:
            single.append(_single(file))
            continue
        known = scans.setdefault(file.parent.parent.name, {}).setdefault(name, file)
        if known is not file:
            raise InputError(f"{file} and {known} are both slice {name}; give one of them")
    grouped = [InputFiles(scan, tuple(named.values()), tuple(named)) for scan, named in sorted(scans.items())]
    inputs = [*grouped, *single]
    seen: dict[str, InputFiles] = {}
    for item in inputs:
        other = seen.setdefault(item.id, item)
        if other is not item:
            raise InputError(f"{item.files[0]} and {other.files[0]} share the name {item.id}; predict them separately")
    return inputs


def read_input(
    item: InputFiles,
    *,
    channels: int | None = None,
    axis: int = 2,
    thickness: float = SLICE_THICKNESS,
    spacing: Spacing | None = None,
) -> InputImage:
    """Read one scan; NIfTI volumes are sliced along `axis` (see `fewpairs.kinds.segmentation.volumes`).

    Args:
        channels: the number of channels that the model expects; for 3, a grey image is repeated.
        thickness: distance between slices of the UW-Madison layout in mm, as in training.
        spacing: distances of slices, rows and columns of other pictures in mm; None takes 1 mm.

    Raises:
        DataError: a file is damaged, slices of one scan differ in size, or the number of channels is wrong.
    """
    path = item.files[0]
    volume: Volume | None = None
    notes: tuple[str, ...] = ()
    if path.name.lower().endswith(SUFFIXES):
        volume = Volume.open(path, axis)
        image, spacing, notes = volume.read(), volume.spacing, tuple(map(str, volume.notes))
        slice_ids = tuple(f"{item.id}_slice_{number:04d}" for number in range(1, volume.slices + 1))
    else:
        if item.stack and item.slice_ids is not None:
            image, notes = read_slices(path, len(item.slice_ids)), () if spacing else (str(STACK),)
        else:
            image = _read_pictures(item.files)
        spacing = spacing or MILLIMETRE
        slice_ids = item.slice_ids or (item.id,)
        name = SliceName.parse(path.name)
        if name is not None:
            spacing = (thickness, *name.spacing)
    if channels == 3 and image.shape[1] == 1:
        image = np.repeat(image, 3, axis=1)
    if channels is not None and image.shape[1] != channels:
        raise DataError(f"{path} has {image.shape[1]} channels; the model was trained on images with {channels}")
    numbers = None if item.slice_ids is None or item.stack else slice_numbers(item.files)
    if numbers is not None:
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        notes = (*notes, f"{missing} slices between the first and the last are missing and add no volume")
    return InputImage(item.id, item.files, image, spacing, slice_ids, volume, notes, numbers)


def _read_pictures(paths: tuple[Path, ...]) -> NDArray[Any]:
    first, *others = (read_picture(path) for path in paths)
    for path, picture in zip(paths[1:], others, strict=True):
        if picture.shape != first.shape:
            raise DataError(f"{path} has the shape {picture.shape}, but {paths[0]} of the same scan {first.shape}")
    return np.stack([first, *others])


def _single(file: Path) -> InputFiles:
    """Return the scan of one file; a file that cannot be opened fails when it is read."""
    name, pages = _stem(file), 1
    if file.name.lower().endswith((".tif", ".tiff")):
        with suppress(DataError):
            pages = read_header(file, stack=True).pages
    return InputFiles(name, (file,), stack_ids(name, pages) if pages > 1 else None, pages > 1)


def _below(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith((*SUFFIXES, *PICTURES))]
    slices = [path for path in folder.rglob("slice_*.png") if slice_id(path) is not None]
    return sorted(path for path in {*files, *slices} if not path.name.startswith("."))


def _stem(path: Path) -> str:
    return volume_stem(path) if path.name.lower().endswith(SUFFIXES) else path.stem
