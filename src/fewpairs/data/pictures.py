"""Pixels out of picture files (PNG, TIFF, BMP, JPEG), grey or RGB, 8 or 16 bits, with damage reported by file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from fewpairs.errors import DataError
from fewpairs.types import Size

PICTURES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; check its permissions") from None
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable picture ({error}); the file is damaged or truncated") from None


def picture_layout(path: Path) -> tuple[Size, int]:
    """Size (h, w) in pixels and number of channels (1 or 3) of a picture, from its header alone.

    Raises:
        DataError: not a readable picture.
    """
    with _opened(path) as picture:
        return (picture.height, picture.width), 1 if picture.mode in _GREY else 3


def read_picture(path: Path) -> NDArray[Any]:
    """Pixels `[c H W]` with c = 1 (grey) or 3 (RGB), in the stored depth; an alpha channel is left out.

    Raises:
        DataError: not a readable picture.
    """
    with _opened(path) as picture:
        if _deep_modes(picture):
            return _read_deep(picture, path)
        if picture.mode not in _GREY:
            return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
        if picture.mode in ("LA", "La"):
            return np.asarray(picture.convert("L"))[None]
        pixels = np.asarray(picture)
        return _native(pixels)[None]


def read_indices(path: Path) -> NDArray[Any]:
    """Stored numbers `[H W]` of a grey or palette picture, the palette's indices rather than its colours.

    Raises:
        DataError: not a readable picture, or one in colour.
    """
    with _opened(path) as picture:
        if picture.mode not in _GREY and picture.mode != "P":
            raise DataError(
                f"{path} is in colour ({picture.mode}) but is read as label numbers; "
                "name the colour of each class (colours=) to read colour-coded masks"
            )
        if picture.mode in ("LA", "La"):
            return np.asarray(picture.convert("L"))
        return _native(np.asarray(picture))


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Bool to uint8, and the machine's byte order."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _deep_modes(picture: Image.Image) -> list[str]:
    """How Pillow names the layout of a picture with 16 bits a colour, as `RGB;16B`; empty for all others."""
    given = [tile.args for tile in picture.tile] if isinstance(picture, ImageFile.ImageFile) else []
    names = [args if isinstance(args, str) else args[0] for args in given if args]
    return [name for name in names if isinstance(name, str) and ";16" in name and name.startswith("RGB")]


def _read_deep(picture: Image.Image, path: Path) -> NDArray[Any]:
    """Both bytes of each colour of a PNG. Pillow keeps only the high one, unless told that bytes are swapped."""
    if picture.format != "PNG":
        raise DataError(f"{path} has 16 bits a colour, which are read from PNG only; convert it")
    with _opened(path) as swapped:
        if not isinstance(swapped, ImageFile.ImageFile):
            raise DataError(f"{path} is not a readable picture; the file is damaged")
        swapped.tile = [tile._replace(args=str(tile.args).replace(";16B", ";16L")) for tile in swapped.tile]
        low = np.asarray(swapped)[..., :3].astype(np.uint16)
    high = np.asarray(picture)[..., :3].astype(np.uint16)
    return np.ascontiguousarray((high << 8 | low).transpose(2, 0, 1))
