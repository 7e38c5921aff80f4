"""Reading of pictures: 8 bits for networks, or the stored depth for scans and masks; damage is reported by file.

- Pixels are read as they are stored, for every kind of experiment, in training and in prediction. EXIF orientations are
  never followed, as in torchvision and timm; `Header` reports them, and `turned_notes` tells of them.
- A file of several pages or frames is refused, except where the slices of a scan are asked for by `page`.
- Masks are read from lossless files only. A grey mask that is stored in three equal channels is grey.
- Alpha is dropped; palettes and CMYK become RGB. In 8 bits, 16-bit values keep their high byte, and floating-point
  values are read from 0 to 1.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from fewpairs.data.files import files_by_stem, is_hidden, visible_files
from fewpairs.data.memory import check_memory
from fewpairs.data.pages import check_single, check_stack, full_pages, is_lossless_webp
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.types import Size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""Suffixes of pictures and masks, in lower case: formats of published data sets that Pillow reads."""

_NUMBERS = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_GREY = {"1", "L", "LA", "La", *_NUMBERS}
_ORIENTATION = 0x0112
_LARGE = 2**24
_WITH_EXIF = ("JPEG", "MPO", "TIFF", "WEBP")
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG"}
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_JPEG, _PNG, _GIF, _BMP, _RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"
_ENDS = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82", _GIF: b";"}


@dataclass(frozen=True, slots=True)
class Header:
    """Header of a picture file."""

    size: Size
    """Height and width in pixels, as stored."""
    channels: int
    """1 for a grey picture, 3 for a picture in colour or with a palette."""
    orientation: int
    """EXIF tag: 2 to 8 for a picture that is stored rotated or mirrored, 1 otherwise."""
    pages: int = 1


def read_header(path: Path, *, stack: bool = False) -> Header:
    """Read the header of a picture file; with `stack`, that of the first slice of a scan.

    Raises:
        DataError: as `read_image`, if the header shows it.
    """
    with _opened(path, str(path), 0 if stack else None) as picture:
        channels, pages = 1 if picture.mode in _GREY else 3, len(full_pages(picture)) if stack else 1
        return Header((picture.height, picture.width), channels, _orientation(picture), pages)


def read_mask_header(path: Path, *, stack: bool = False) -> Header:
    """Read the header of a mask file as `read_header`.

    Raises:
        DataError: also if its format changes pixel values.
    """
    with _opened(path, str(path), 0 if stack else None) as picture:
        _refuse_lossy(picture, path)
    return read_header(path, stack=stack)


def check_file(path: Path, *, decode: bool) -> Header:
    """Check that `path` is a complete picture, and return its header.

    Without `decode`, only the header and the end of the file are read, which finds truncated files; a file whose format
    has no end marker, or that lacks it, is decoded. With `decode`, every pixel is decoded.

    Raises:
        DataError: the picture is damaged or truncated.
    """
    if decode or not _ends_well(path):
        read_image(path)
    return read_header(path)


def turned_hint(header: Header, expected: Size) -> str:
    """Return a clause for messages about a picture that has the size `expected` only when its orientation turns it.

    Such a size proves that an annotation or mask was made on the turned picture. Otherwise the clause is empty.
    """
    if header.orientation < 5 or header.size != expected[::-1]:
        return ""
    return ", annotated as its EXIF orientation turns it: store the pixels upright, without the tag"


def turned_notes(turned: Mapping[str, int], shown: int = 20) -> tuple[str, ...]:
    """Return a sentence on the pictures with an EXIF orientation (name -> tag); an empty tuple if there are none."""
    if not turned:
        return ()
    places = [f"{name} (orientation {tag})" for name, tag in turned.items()]
    more = f"; and {len(places) - shown} more" if len(places) > shown else ""
    what = "images with an EXIF orientation, read as stored: the tag is not followed"
    return (f"{len(places)} {what}: {'; '.join(places[:shown])}{more}",)


def read_image(content: Path | bytes, name: str | None = None) -> Image.Image:
    """Decode a picture to mode L or RGB; messages call it `name`, by default its path.

    Raises:
        DataError: the file is empty, damaged, truncated or unknown to Pillow, or has pixels out of range.
    """
    name = name or str(content)
    with _opened(content, name) as picture:
        picture.load()
        if picture.mode in _NUMBERS:
            return _eight_bits(picture, name)
        return picture.convert("L") if picture.mode in _GREY else _colour(picture)


def read_picture(path: Path, page: int | None = None) -> NDArray[Any]:
    """Read pixels `[c H W]` with c = 1 (grey) or 3 (RGB), in the stored depth.

    `page` counts the slices of a scan in one file; None reads files of one picture.

    Raises:
        DataError: as `read_image`, or 16 bits a colour in another format than PNG.
    """
    with _opened(path, str(path), page) as picture:
        if _is_deep(picture):
            return _read_deep(picture, path)
        if picture.mode not in _GREY:
            return np.ascontiguousarray(np.asarray(_colour(picture)).transpose(2, 0, 1))
        return _finite_numbers(picture, path)[None]


def read_indices(path: Path, page: int | None = None) -> NDArray[Any]:
    """Read the stored numbers `[H W]` of a grey or palette mask; palettes give indices, not colours.

    A picture with three equal channels is grey, and so is a GIF with a palette of greys, whose indices mean nothing.

    Raises:
        DataError: as `read_image`, or the picture is in colour or its format changes pixels.
    """
    with _opened(path, str(path), page) as picture:
        _refuse_lossy(picture, path)
        if picture.mode in _GREY or (picture.mode == "P" and picture.format != "GIF"):
            return _finite_numbers(picture, path)
        mode = picture.mode
    pixels = read_picture(path, page)
    if mode in ("RGB", "RGBA", "RGBX", "P") and (pixels == pixels[:1]).all():
        return pixels[0]
    raise DataError(
        f"{path} is in colour ({mode}) but is read as label numbers; "
        "name the colour of each class (colours=) to read colour-coded masks"
    )


def read_colours(path: Path, page: int | None = None) -> NDArray[np.uint8]:
    """Read the colours `[3 H W]` of a colour-coded mask.

    Raises:
        DataError: as `read_image`, or the mask has more than 8 bits per channel or its format changes pixels.
    """
    with _opened(path, str(path), page) as picture:
        _refuse_lossy(picture, path)
    pixels = read_picture(path, page)
    if pixels.dtype != np.uint8:
        raise DataError(f"{path} has {8 * pixels.dtype.itemsize} bits per channel; colour-coded masks have 8")
    return np.broadcast_to(pixels, (3, *pixels.shape[1:]))


def _refuse_lossy(picture: Image.Image, path: Path) -> None:
    """Raise DataError if the format of a mask changes pixel values; the content tells it and not the suffix."""
    form = _LOSSY.get(picture.format or "")
    if picture.format == "TIFF" and picture.info.get("compression") in _LOSSY_TIFF:
        form = f"TIFF with {picture.info['compression']} compression"
    if picture.format == "WEBP" and not is_lossless_webp(path):
        form = "lossy WebP"
    if form is not None:
        raise DataError(f"{path}: {form} changes pixel values, so it cannot hold masks; use PNG, TIFF or BMP")


def as_channels(image: Image.Image, channels: int) -> Image.Image:
    """Convert to grey (1 channel, luma weights of ITU-R 601) or colour (3 channels, grey is repeated)."""
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Turn every error while the picture `name` is read into a DataError."""
    try:
        yield
    except FewpairsError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except PermissionError:
        raise DataError(f"{name} may not be read; check its permissions") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(f"{name} claims more than {most:,} pixels, the most that are read; cut it into tiles") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on a damaged file: KeyError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is not a readable picture ({reason}); the file is damaged or truncated") from None


@contextmanager
def _opened(content: Path | bytes, name: str, page: int | None = None) -> Iterator[Image.Image]:
    """Open the only picture of a file, or a slice of a scan."""
    with damage(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if (len(content) if isinstance(content, bytes) else content.stat().st_size) == 0:
            raise DataError(f"{name} is empty (0 bytes)")
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as picture:
            places = full_pages(picture)
            if page is None:
                check_single(picture, name, len(places))
            else:
                check_stack(picture, name, len(places))
            if places[page or 0]:
                picture.seek(places[page or 0])
            if picture.width * picture.height > _LARGE:
                needed = 2 * picture.width * picture.height * len(picture.getbands())
                check_memory(needed, f"{name} ({picture.height} x {picture.width} pixels)", "cut it into tiles")
            if isinstance(picture, TiffImageFile) and _orientation(picture) != 1:
                # unlike other formats, Pillow turns TIFFs when it loads them, and swaps their sides when it opens them
                del picture.getexif()[_ORIENTATION]
                picture._size = picture.tag_v2[IMAGEWIDTH], picture.tag_v2[IMAGELENGTH]
            yield picture


def _orientation(picture: Image.Image) -> int:
    if picture.format not in _WITH_EXIF and "exif" not in picture.info:  # of a PNG, that it is there before its pixels
        return 1
    try:
        tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else picture.getexif()
        tag: Any = tags.get(_ORIENTATION)
    except Exception:  # a damaged EXIF block makes Pillow raise nearly anything, and does no harm to the pixels
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def _colour(picture: Image.Image) -> Image.Image:
    """Convert to RGB; transparent pixels keep their colour."""
    if "transparency" in picture.info or picture.mode == "PA":
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _stored_numbers(picture: Image.Image) -> NDArray[Any]:
    """Return `[H W]` in the byte order of the machine, with bool as uint8."""
    pixels = np.asarray(picture.convert("L") if picture.mode in ("LA", "La") else picture)
    return pixels.astype(np.uint8 if pixels.dtype == bool else pixels.dtype.newbyteorder("="), copy=False)


def _finite_numbers(picture: Image.Image, path: Path) -> NDArray[Any]:
    pixels = _stored_numbers(picture)
    if pixels.dtype.kind == "f" and (count := int(np.count_nonzero(~np.isfinite(pixels)))):
        raise DataError(f"{path} holds {count} pixels that are not finite (NaN or infinite); replace them")
    return pixels


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Integers of 16 bits or floating point from 0 to 1 -> 8 bits."""
    pixels = _stored_numbers(picture)
    largest = 1 if picture.mode == "F" else 65535
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= largest):
        raise DataError(
            f"{name} has values from {low:g} to {high:g}; pixels of this kind ({picture.mode}) are read from 0 to "
            f"{largest}; convert it to 8 or 16 bits"
        )
    eight = np.rint(pixels * 255.0) if picture.mode == "F" else pixels.astype(np.uint16) >> 8
    return Image.fromarray(eight.astype(np.uint8))


def _is_deep(picture: Image.Image) -> bool:
    """Return whether a picture has 16 bits per colour, which Pillow calls `RGB;16B`, for example."""
    given = [tile.args for tile in picture.tile] if isinstance(picture, ImageFile.ImageFile) else []
    names = [args if isinstance(args, str) else args[0] for args in given if args]
    return any(isinstance(name, str) and ";16" in name and name.startswith("RGB") for name in names)


def _read_deep(picture: Image.Image, path: Path) -> NDArray[Any]:
    """Read both bytes of each colour of a PNG; Pillow keeps only the high byte unless told that bytes are swapped."""
    if picture.format != "PNG":
        raise DataError(f"{path} has 16 bits a colour, which are read from PNG only; convert it")
    with _opened(path, str(path)) as swapped:
        if not isinstance(swapped, ImageFile.ImageFile):
            raise DataError(f"{path} is not a readable picture; the file is damaged")
        swapped.tile = [tile._replace(args=str(tile.args).replace(";16B", ";16L")) for tile in swapped.tile]
        low = np.asarray(swapped)[..., :3].astype(np.uint16)
    high = np.asarray(picture)[..., :3].astype(np.uint16)
    return np.ascontiguousarray((high << 8 | low).transpose(2, 0, 1))


def _ends_well(path: Path) -> bool:
    """Return whether the file has the end marker or length that its format demands."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 12))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(_RIFF):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if head.startswith(_BMP):
        return 54 <= int.from_bytes(head[2:6], "little") <= size
    return any(head.startswith(magic) and tail.endswith(end) for magic, end in _ENDS.items())


@dataclass(frozen=True)
class PictureTree:
    """Files at any depth below a folder, as sorted paths relative to it."""

    images: list[str]
    others: list[str]
    """Files of other formats."""


def mask_files(folder: Path) -> dict[str, Path]:
    """Map the masks in a folder by their names without suffix.

    Raises:
        DataError: `folder` is not a folder, two masks have the same name, or some have a suffix of JPEG.
    """
    masks = visible_files(folder, SUFFIXES)
    lossy = [path for path in masks if path.suffix.lower() in (".jpg", ".jpeg")]
    if lossy:
        raise DataError(
            f"{lossy[0]}: JPEG changes pixel values, so it cannot hold masks ({len(lossy)} such); use PNG, TIFF or BMP"
        )
    return files_by_stem(masks)


def list_images(folder: Path) -> PictureTree:
    """List all images at any depth below `folder`; links are followed, hidden files and folders are skipped."""
    images: list[str] = []
    others: list[str] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not is_hidden(name)]
        prefix = Path(place).relative_to(folder).as_posix()
        for name in files:
            if is_hidden(name):
                continue
            (images if is_image(name) else others).append(name if prefix == "." else f"{prefix}/{name}")
    return PictureTree(sorted(images), sorted(others))


def is_image(name: str) -> bool:
    """Return whether the file name `name` is that of a picture."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def find_pictures(inputs: Sequence[Path | str]) -> list[Path]:
    """List the given files and all pictures at any depth below the given folders, each once.

    Raises:
        InputError: no input is given, a path does not exist or has another suffix, or a folder holds no pictures.
    """
    found: dict[Path, Path] = {}
    for path in (Path(given) for given in inputs):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        below = [path / name for name in list_images(path).images] if path.is_dir() else [path]
        if not below:
            raise InputError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        if not is_image(below[0].name):
            raise InputError(f"{path} is no picture that can be read ({', '.join(SUFFIXES)})")
        for file in below:
            found.setdefault(file.resolve(), file)
    if not found:
        raise InputError("no pictures given")
    return list(found.values())
