"""Pictures out of files: 8-bit grey or colour, whatever they were stored as, with damage reported by name.

Stored form -> grey (mode L) or colour (mode RGB): alpha is left out, palettes become their colours, CMYK becomes RGB,
16 bits keep their high byte, floating point counts from 0 to 1. Orientation tags are not followed, as in torchvision
and timm, so that scores stay comparable with theirs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.errors import DataError, FewpairsError, InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_JPEG, _PNG, _GIF, _BMP, _RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF"
_ENDS = {_JPEG: b"\xff\xd9", _PNG: b"IEND\xaeB`\x82", _GIF: b";"}


def read_image(content: Path | bytes, name: str | None = None) -> Image.Image:
    """The decoded picture in mode L or RGB; `name` is what messages call it, by default the path.

    Raises:
        DataError: an empty, damaged or truncated file, none that Pillow reads, or pixels out of range.
    """
    with _opened(content, name or str(content)) as picture:
        picture.load()
        return _eight_bit(picture)


def as_channels(image: Image.Image, channels: int) -> Image.Image:
    """Grey (1, by the luma weights of ITU-R 601) or colour (3); grey becomes colour by repetition."""
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def stored_channels(path: Path) -> int:
    """1 for a grey file and 3 for one in colour or with a palette, by its header.

    Raises:
        DataError: as `read_image`, as far as the header shows it.
    """
    with _opened(path, str(path)) as picture:
        return 1 if picture.mode in _GREY else 3


def check_file(path: Path, *, decode: bool) -> None:
    """Raise DataError if `path` is no whole picture.

    Without `decode` the header is parsed and the end of the file looked for, which tells truncated files from whole
    ones at the cost of two short reads; files of formats without a marked end, or that do not end as they should, are
    decoded. With `decode` every pixel is.
    """
    if decode or not _ends_well(path):
        read_image(path)
    else:
        stored_channels(path)


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Whatever goes wrong while the picture `name` is read becomes a DataError that says so."""
    try:
        yield
    except FewpairsError:
        raise
    except PermissionError:
        raise DataError(f"{name} may not be read; check its permissions") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on a damaged file: KeyError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is not a readable picture ({reason}); the file is damaged or truncated") from None


@contextmanager
def _opened(content: Path | bytes, name: str) -> Iterator[Image.Image]:
    size = len(content) if isinstance(content, bytes) else _size(content)
    if size == 0:
        raise DataError(f"{name} is empty (0 bytes)")
    with damage(name), Image.open(BytesIO(content) if isinstance(content, bytes) else content) as picture:
        yield picture


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _eight_bit(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return _from_numbers(picture)
    if mode in ("1", "L", "LA", "La"):
        return picture.convert("L")
    if "transparency" in picture.info or mode == "PA":
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _from_numbers(picture: Image.Image) -> Image.Image:
    """Integers of 16 bits or floating point from 0 to 1 -> 8 bits."""
    pixels = np.asarray(picture)
    largest = 1 if picture.mode == "F" else 65535
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= largest):
        raise DataError(
            f"{getattr(picture, 'filename', '') or 'the picture'} has values from {low:g} to {high:g}; "
            f"pixels of this kind ({picture.mode}) are read from 0 to {largest}; convert it to 8 or 16 bits"
        )
    eight = np.rint(pixels * 255.0) if picture.mode == "F" else pixels.astype(np.uint16) >> 8
    return Image.fromarray(eight.astype(np.uint8))


def _ends_well(path: Path) -> bool:
    """Whether the format marks its end, or states its length, and the file agrees."""
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
class ClassFolder:
    """What lies in the folder of one class."""

    images: list[str]
    """Paths relative to the folder, sorted."""
    others: Counter[str]
    """Files with suffixes that are not read, by suffix."""


def look_into(folder: Path) -> ClassFolder:
    """All images at any depth below `folder`; links are followed, hidden files and folders are left out."""
    images: list[str] = []
    others: Counter[str] = Counter()
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
            if is_image(name):
                images.append(name if prefix == "." else f"{prefix}/{name}")
            else:
                others[Path(name).suffix.lower() or name] += 1
    return ClassFolder(sorted(images), others)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: `.DS_Store`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether a file called `name` is taken for a picture."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def find_pictures(inputs: Sequence[Path | str]) -> list[Path]:
    """Files, and all pictures at any depth below folders by their names, in the order given; each counts once.

    Raises:
        InputError: nothing given, a path that does not exist or has another suffix, or a folder without pictures.
    """
    found: dict[Path, Path] = {}
    for path in (Path(given) for given in inputs):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        below = [path / name for name in look_into(path).images] if path.is_dir() else [path]
        if not below:
            raise InputError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        if not is_image(below[0].name):
            raise InputError(f"{path} is no picture that can be read ({', '.join(SUFFIXES)})")
        for file in below:
            found.setdefault(file.resolve(), file)
    if not found:
        raise InputError("no pictures given")
    return list(found.values())
