"""Conversion between NIfTI volumes and stacks of slices.

A volume is first reoriented (by flips and transpositions alone) so that its axes follow the patient's, then sliced:

    axis 0  sagittal slices     rows from superior to inferior, columns from anterior to posterior
    axis 1  coronal slices      rows from superior to inferior, columns from right to left
    axis 2  axial slices        rows from anterior to posterior, columns from right to left

Slices thus look as in a radiological viewer, whatever the orientation in which their volume is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from fewpairs.data.notes import Note
from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.nifti_file import opened, placement, read_voxels, reading, same_corners, whole_labels
from fewpairs.types import Size, Spacing
from fewpairs.writing import atomic_path

AXES = (0, 1, 2)
LENGTHS = (1e-4, 1e4)
"""The smallest and the largest length of a voxel in mm: from a light microscope's to beyond any scanner's."""

_CODES = {0: "LPI", 1: "LPI", 2: "LPS"}
_ORDER = {0: (0, 2, 1), 1: (1, 2, 0), 2: (2, 1, 0)}


@dataclass(frozen=True)
class Volume:
    """The header of one NIfTI file that is sliced along `axis`; voxels are read on demand."""

    path: Path
    axis: int
    shape: tuple[int, int, int]
    """Number of voxels along the stored axes."""
    channels: int
    affine: NDArray[np.float64]
    """`[4 4]`, from stored voxel indices to mm."""
    header: nibabel.nifti1.Nifti1Header
    squeezed: tuple[int, ...]
    """The stored shape with all dimensions, also those of length 1 before the channels."""
    notes: tuple[Note, ...] = ()
    """What should be known of the header."""

    @classmethod
    def open(cls, path: Path, axis: int = 2) -> Volume:
        """Read the header.

        Raises:
            DataError: the file is not NIfTI, is empty, is shorter than its header says, has more than 4 dimensions or a
                singular affine.
            InputError: `axis` is not 0, 1 or 2.
        """
        if axis not in AXES:
            raise InputError(f"axis={axis!r}: slices run along 0 (sagittal), 1 (coronal) or 2 (axial)")
        with opened(path) as image:
            header = image.header
        stored = tuple(int(length) for length in header.get_data_shape())
        x, y, z = (*stored, 1, 1, 1)[:3]
        more = [length for length in stored[3:] if length > 1]
        if len(more) > 1:
            raise DataError(f"{path} has the shape {stored}; a volume has three dimensions and at most one of channels")
        if len(stored) < 2:
            raise DataError(f"{path} has the shape {stored} and holds no volume")
        with reading(path):
            affine, notes = placement(header)
        _check_affine(path, affine)
        if more:
            detail = f"{more[0]} of them"
            notes = (*notes, Note("volumes whose fourth dimension is read as channels, not as a series", detail))
        return cls(path, axis, (x, y, z), more[0] if more else 1, affine, header, stored, notes)

    @property
    def orientation(self) -> NDArray[np.float64]:
        """The orientation transform of nibabel from the stored axes to those of the slices."""
        return np.asarray(ornt_transform(io_orientation(self.affine), axcodes2ornt(tuple(_CODES[self.axis]))))

    def _cut_lengths(self, along_stored: NDArray[Any]) -> tuple[Any, Any, Any]:
        """Reorder values for the three stored axes to (slices, rows, columns)."""
        turned = [along_stored[int(np.flatnonzero(self.orientation[:, 0] == i)[0])] for i in range(3)]
        s, rows, columns = (turned[i] for i in _ORDER[self.axis])
        return s, rows, columns

    @property
    def slices(self) -> int:
        return int(self._cut_lengths(np.array(self.shape))[0])

    @property
    def size(self) -> Size:
        """Height and width of a slice in pixels."""
        _, rows, columns = self._cut_lengths(np.array(self.shape))
        return int(rows), int(columns)

    @property
    def spacing(self) -> Spacing:
        """The distances between slices, rows and columns in mm."""
        s, rows, columns = self._cut_lengths(voxel_sizes(self.affine))
        return float(s), float(rows), float(columns)

    def read(self) -> NDArray[Any]:
        """Read the voxels `[s c H W]`, scaled if the header says so, otherwise in the stored dtype.

        Raises:
            DataError: the file is damaged or truncated, or has colour voxels or values that are not finite.
        """
        return self.to_slices(read_voxels(self.path).reshape(*self.shape, self.channels))

    def read_labels(self) -> tuple[NDArray[Any], tuple[Note, ...]]:
        """Read the label numbers `[s H W]` of a volume of one channel, and what should be known of them.

        Raises:
            DataError: as `read`, or the numbers are not whole.
        """
        return whole_labels(self.read()[:, 0], self.path)

    def to_slices(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Convert stored voxels `[x y z c]` to `[s c H W]`."""
        turned = apply_orientation(voxels, self.orientation)
        s, rows, columns = _ORDER[self.axis]
        return np.ascontiguousarray(turned.transpose(s, 3, rows, columns))

    def from_slices(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Convert slices `[s H W]` to voxels in the stored order and shape, without channels."""
        turned = labels.transpose(np.argsort(_ORDER[self.axis]).tolist())
        back = ornt_transform(axcodes2ornt(tuple(_CODES[self.axis])), io_orientation(self.affine))
        return np.ascontiguousarray(apply_orientation(turned, back).reshape(self.squeezed[:3]))

    @property
    def grid(self) -> NDArray[np.float64]:
        """The affine `[4 4]` from (slice, row, column) to mm, whatever the orientation in which voxels are stored."""
        turned = self.affine @ inv_ornt_aff(self.orientation, self.shape)
        return np.asarray(turned[:, [*_ORDER[self.axis], 3]], np.float64)

    def same_space(self, other: Volume) -> bool:
        """Return whether the slices of both volumes lie in the same place (see `nifti_file.same_corners`)."""
        shape = (self.slices, *self.size)
        return shape == (other.slices, *other.size) and same_corners(self.grid, other.grid, shape)


def _check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Raise DataError unless an affine spans space and its voxels have lengths that something scanned can have."""
    with np.errstate(all="ignore"):
        lengths = voxel_sizes(affine)
        volume = abs(np.linalg.det(affine[:3, :3] / lengths))
    if not np.isfinite(affine).all() or not volume >= 1e-12 or np.isnan(io_orientation(affine)).any():
        raise DataError(f"{path} has an affine that does not span space: {affine[:3].tolist()}")
    if not (LENGTHS[0] <= lengths.min() and lengths.max() <= LENGTHS[1]):
        sizes = " x ".join(f"{length:.4g}" for length in lengths)
        raise DataError(
            f"{path} has voxels of {sizes} mm; lengths from {LENGTHS[0]:g} to {LENGTHS[1]:g} mm are read: correct the "
            "header (pixdim, sform, qform or its unit)"
        )


def write_nifti_labels(path: Path, labels: NDArray[np.unsignedinteger[Any]], volume: Volume) -> None:
    """Write labels `[s H W]` as NIfTI of their type with the affine, spacing, axis order and shape of `volume`.

    Raises:
        DataError: the file cannot be written.
    """
    header = volume.header.copy()
    header.extensions.clear()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    second = isinstance(header, nibabel.nifti2.Nifti2Header)
    kind = nibabel.nifti2.Nifti2Image if second else nibabel.nifti1.Nifti1Image
    voxels = volume.from_slices(labels)
    with atomic_path(path) as temporary:
        nibabel.save(kind(voxels, header.get_best_affine(), header), temporary)
