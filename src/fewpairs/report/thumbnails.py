"""Contact sheets: small copies of pictures in rows, each with lines of text below it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_SIDE = 160
_GAP = 12
_TEXT = 13
_LINE = 17
_COLUMNS = 6
_INK, _PAPER = (32, 32, 32), (255, 255, 255)


def thumbnail(image: Image.Image) -> Image.Image:
    """A small RGB copy of a picture in mode L or RGB, with 160 pixels at its longer side."""
    factor = _SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.BICUBIC)


def thumbnail_sheet(thumbnails: Sequence[Image.Image], captions: Sequence[Sequence[str]]) -> Image.Image:
    """A contact sheet of thumbnails in rows of six, with captions whose lines are cut off where they are too wide.

    There must be at least one thumbnail, and one caption for each.
    """
    lines = max(len(caption) for caption in captions)
    columns, rows = min(_COLUMNS, len(thumbnails)), math.ceil(len(thumbnails) / _COLUMNS)
    wide, tall = _SIDE + _GAP, _SIDE + _LINE * lines + 2 * _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * tall + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, (image, caption) in enumerate(zip(thumbnails, captions, strict=True)):
        left, top = _GAP + place % columns * wide, _GAP + place // columns * tall
        sheet.paste(image, (left + (_SIDE - image.width) // 2, top + _SIDE - image.height))
        for number, line in enumerate(caption):
            draw.text((left, top + _SIDE + 3 + number * _LINE), _cut(line, font), _INK, font)
    return sheet


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib includes and which has Latin, Greek and Cyrillic letters."""
    import matplotlib as mpl

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _TEXT)


def _cut(line: str, font: ImageFont.FreeTypeFont) -> str:
    """The line, cut off with an ellipsis where it is wider than a thumbnail."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in line)
    if font.getlength(shown) <= _SIDE:
        return shown
    while shown and font.getlength(f"{shown}…") > _SIDE:
        shown = shown[:-1]
    return f"{shown}…"
