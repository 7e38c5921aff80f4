"""Pages and frames of picture files: which there are, and which cannot be told apart as slices of one scan."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import IMAGEDESCRIPTION, TiffImageFile

from fewpairs.errors import DataError

_SUBFILE = 254
_REDUCED_OR_MASK = 0b101


def full_pages(picture: Image.Image) -> list[int]:
    """Return the indices of the pages or frames of an open picture, and leave it at the first one.

    Reduced copies and transparency masks in a TIFF are no pages of their own. Pictures after the first in a JPEG (MPO)
    are previews or other views of the same shot.
    """
    frames = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
    if frames == 1 or not isinstance(picture, TiffImageFile):
        return list(range(frames))
    places = []
    for place in range(frames):
        picture.seek(place)
        kind = picture.tag_v2.get(_SUBFILE, 0)
        if not (isinstance(kind, int) and kind & _REDUCED_OR_MASK):
            places.append(place)
    picture.seek(0)
    return places or [0]


def check_single(picture: Image.Image, name: str, pages: int) -> None:
    """Raise DataError if a picture has several pages or frames, of which one alone would be read."""
    if pages > 1:
        what = "pages" if picture.format == "TIFF" else "frames"
        raise DataError(
            f"{name} has {pages} {what}, and one picture is read here; save each as a file of its own, or the one that "
            "is meant (a TIFF of several pages is a scan for segmentation alone: data.kind=folder)"
        )


def check_stack(picture: Image.Image, name: str, pages: int) -> None:
    """Raise DataError if the pages of a picture are not the slices of one scan."""
    if pages > 1 and not isinstance(picture, TiffImageFile):
        raise DataError(f"{name} has {pages} frames; stacks of slices are read from TIFF, save them as one")
    if not isinstance(picture, TiffImageFile):
        return
    text = str(picture.tag_v2.get(IMAGEDESCRIPTION, ""))
    if not text.startswith("ImageJ"):
        return
    told = {name: int(number) for name, number in re.findall(r"^(images|channels|frames)=(\d+)\s*$", text, re.M)}
    several = [f"{told[part]} {part}" for part in ("channels", "frames") if told.get(part, 1) > 1]
    if pages > 1 and several:
        raise DataError(f"{name} is an ImageJ stack of {' and '.join(several)}; save one of them, with slices alone")
    if told.get("images", pages) > pages:
        raise DataError(f"{name} is an ImageJ stack of {told['images']} images, of which {pages} can be read")


def is_lossless_webp(path: Path) -> bool:
    """Return whether the first image of a WebP file is in a lossless chunk (`VP8L`)."""
    content = path.read_bytes()
    place = 12
    while place + 8 <= len(content):
        name, length = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if name in (b"VP8L", b"VP8 "):
            return name == b"VP8L"
        place += 8 + (16 if name == b"ANMF" else length + length % 2)
    return False
