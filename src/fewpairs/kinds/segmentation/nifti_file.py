"""Reading of NIfTI files: the header, where it places the voxels, and the voxels, as the content says and not the name.

A file is compressed if it begins as gzip does, whatever its suffix. Of the two affines that a header may hold, the
sform is taken before the qform (nibabel's order); lengths in metres and micrometres become millimetres.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from fewpairs.data.memory import check_memory
from fewpairs.data.notes import Note
from fewpairs.errors import DataError
from fewpairs.numbers import size

_GZIP = b"\x1f\x8b"
_DEFLATED = 1032
"""Largest number of bytes that one byte of gzip can stand for."""
_IMAGES = {348: Nifti1Image, 540: Nifti2Image}
"""Image classes by the length of the header, with which a file begins."""
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_LARGEST = float(np.finfo(np.float32).max)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every error while the NIfTI file `path` is read into a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except PermissionError:
        raise DataError(f"{path} cannot be read; check its permissions") from None
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not a readable NIfTI file ({reason}); the file is damaged or truncated") from None


@contextmanager
def opened(path: Path) -> Iterator[Nifti1Image]:
    """Open a NIfTI-1 or NIfTI-2 file, compressed or not; its voxels are read on demand.

    Raises:
        DataError: the file is not NIfTI, is damaged, or is shorter than its header says.
    """
    with reading(path), path.open("rb") as plain:
        compressed = plain.read(len(_GZIP)) == _GZIP
        length = plain.seek(0, 2)
        plain.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=plain) if compressed else plain)
        first = stream.read(4)
        stream.seek(0)
        kind = next((image for n, image in _IMAGES.items() if first in (n.to_bytes(4, "little"), n.to_bytes(4))), None)
        if kind is None:
            raise DataError(
                f"{path} is {'a damaged or' if first else 'empty and'} no NIfTI volume; the file is truncated"
            )
        magic = stream.read(348)[slice(344, 347) if kind is Nifti1Image else slice(4, 7)]
        stream.seek(0)
        if magic in (b"ni1", b"ni2"):
            raise DataError(f"{path} is the header of a pair of files (.hdr with .img); convert them to one file")
        image = kind.from_stream(stream)
        # nibabel's header forgets where the voxels begin; its proxy of them knows
        _check_length(path, image.header, int(image.dataobj.offset), length, compressed)
        yield image


def _check_length(path: Path, header: Nifti1Header, offset: int, length: int, compressed: bool) -> None:
    """Compare the bytes that the header claims, from `offset` on, with those of the file."""
    shape, dtype = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
    if min(shape, default=0) < 1:
        raise DataError(f"{path} has the shape {shape} and holds no volume")
    if offset > (length * _DEFLATED if compressed else length):
        raise DataError(
            f"{path} says that its voxels begin at byte {offset:.4g}, behind its end; the header is damaged"
        )
    claimed = offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    if claimed > (length * _DEFLATED if compressed else length):
        voxels = f"{' x '.join(map(str, shape))} voxels of {dtype}, which are {size(claimed)}"
        held = f"{size(length)}{' of gzip' if compressed else ''}"
        raise DataError(f"{path} claims {voxels}, but has {held}; the file is damaged or truncated")


def read_voxels(path: Path) -> NDArray[Any]:
    """Read the voxels in their stored shape, scaled if the header says so, otherwise in the stored dtype.

    Raises:
        DataError: the file is damaged or truncated, needs more memory than there is, or has colour voxels or values
            that are not finite.
    """
    with opened(path) as image:
        dtype, slope = np.dtype(image.header.get_data_dtype()), image.header.get_slope_inter()
        if dtype.kind not in "uif":
            raise DataError(f"{path} holds voxels of the type {dtype}; numbers are needed")
        wide = dtype.itemsize if slope in ((None, None), (1.0, 0.0)) else 8
        count = int(np.prod(image.shape, dtype=object))
        check_memory(count * (dtype.itemsize + wide), str(path), "cut the volume, or take a machine with more")
        try:
            voxels = np.asanyarray(image.dataobj)
        except MemoryError:
            raise DataError(f"{path} needs {size(count * (dtype.itemsize + wide))} of memory; cut the volume") from None
    if voxels.dtype.kind == "f":
        wrong = int(voxels.size - np.count_nonzero(np.abs(voxels) <= _LARGEST))
        if wrong:
            what = f"that are not finite (NaN or infinite) or beyond {_LARGEST:.3g}"
            raise DataError(f"{path} holds {wrong} voxels {what}; replace them")
    return voxels


def placement(header: Nifti1Header) -> tuple[NDArray[np.float64], tuple[Note, ...]]:
    """Return the affine `[4 4]` from stored voxel indices to mm, and what should be known of it."""
    notes = []
    unit = _unit(header)
    scale = np.diag([_MILLIMETRES.get(unit, 1.0)] * 3 + [1.0])
    if unit not in _MILLIMETRES:
        notes.append(Note("volumes that give no unit of length, which is taken as mm"))
    elif unit != "mm":
        notes.append(Note(f"volumes in {unit}s, whose lengths are converted to mm"))
    affine = np.asarray(header.get_best_affine(), np.float64)
    sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not sform and not qform:
        notes.append(
            Note("volumes without sform and qform, whose orientation is taken as left, anterior, superior (ANALYZE)")
        )
    with np.errstate(all="ignore"):
        if sform and qform:
            other = header.get_qform()
            if not same_corners(affine, other, header.get_data_shape()[:3]):
                detail = f"voxels of {_sizes(affine)} by sform, {_sizes(other)} by qform"
                notes.append(Note("volumes whose sform and qform place voxels differently; the sform is taken", detail))
        elif sform and not np.allclose(voxel_sizes(affine)[: len(zooms := header.get_zooms()[:3])], zooms, rtol=0.01):
            sizes = " x ".join(f"{length:.4g}" for length in zooms)
            detail = f"voxels of {_sizes(affine)} by sform, {sizes} by pixdim"
            notes.append(Note("volumes whose sform and pixdim give voxels different sizes; the sform is taken", detail))
    return scale @ affine, tuple(notes)


def same_corners(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...], tolerance: float = 0.05
) -> bool:
    """Return whether two affines `[4 4]` place the corners of a grid alike up to a `tolerance` in voxels of `first`."""
    ends = [(0, length - 1) for length in (*shape, 1, 1, 1)[:3]]
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    distance = np.linalg.norm(((first - second) @ homogeneous)[:3], axis=0).max()
    return bool(distance <= tolerance * voxel_sizes(first).min())


def whole_labels(voxels: NDArray[Any], path: Path, tolerance: float = 0.01) -> tuple[NDArray[Any], tuple[Note, ...]]:
    """Round labels that are off whole numbers by `tolerance` at most, as scaled and resampled ones may be.

    Raises:
        DataError: labels are further off.
    """
    if voxels.dtype.kind != "f":
        return voxels, ()
    whole = np.rint(voxels)
    off = np.abs(voxels - whole)
    largest = float(off.max(initial=0.0))
    if largest > tolerance:
        example = float(voxels[off > tolerance][0])
        raise DataError(f"{path} holds labels that are not whole numbers, as {example:g}; was it resampled?")
    note = Note("label volumes with numbers a little off whole ones, which are rounded", f"by up to {largest:.2g}")
    return whole.astype(np.int64), (note,) if largest else ()


def _unit(header: Nifti1Header) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _sizes(affine: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in voxel_sizes(affine))
