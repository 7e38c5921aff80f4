"""Pictures of one slice with the true masks, the predicted masks and the differences between them.

The colours are Okabe and Ito's, which colour-blind readers can distinguish. Small slices are enlarged by a whole factor
until their short side has 256 pixels, as far as the long side allows: images smoothly, masks in whole pixels, so that
edges stay where the masks have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fewpairs.errors import InputError
from fewpairs.safe_text import one_line

Colour = tuple[int, int, int]
Mask = NDArray[np.bool_]
Canvas = NDArray[np.float64]

CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
"""Orange, sky blue, bluish green, yellow, reddish purple, vermilion and blue; lighter from the eighth class on."""

ERROR_COLOURS: dict[str, Colour] = {
    "correct": (190, 190, 190),
    "missed": (213, 94, 0),
    "extra": (0, 125, 195),
    "wrong class": (204, 121, 167),
}
"""Colours of an error map; wrong class means one class in the truth and another in the prediction."""

SHORT_SIDE = 256
LONG_SIDE = 4096
"""The largest length in pixels to which a slice is enlarged."""
_FILL, _CORRECT, _ERROR = 0.5, 0.5, 0.85
_PAPER, _INK, _GAP = (255, 255, 255), (29, 36, 48), 8


@dataclass(frozen=True, slots=True)
class _Slice:
    """A slice at the size of the picture: grey or colour `[H W 3]` in 0..1, with its masks `[k H W]`."""

    image: Canvas
    truth: Mask | None
    prediction: Mask


def overlay(
    image: ArrayLike, truth: ArrayLike | None, prediction: ArrayLike, classes: Sequence[str], *, title: str = ""
) -> Image.Image:
    """The slice with the prediction as translucent fill and a given truth as contours, above a legend.

    `image` is `[H W]` or `[H W 3]` (any range: it is stretched from its smallest to its largest finite value, unless it
    is colour in 0..1 or uint8), masks are `[k H W]` bool or 0/1, in the order of `classes`. Raises InputError when
    sizes differ.
    """
    part = _slice(image, truth, prediction, classes)
    canvas = _filled(part.image, part.prediction)
    if part.truth is not None:
        canvas = _outlined(canvas, part.truth)
    legend = [_class_entries(classes)]
    if part.truth is not None:
        legend.append([("fill: prediction", None), ("line: truth", None)])
    return page([("", canvas)], legend, title)


def error_map(
    image: ArrayLike, truth: ArrayLike, prediction: ArrayLike, classes: Sequence[str], *, title: str = ""
) -> Image.Image:
    """The darkened slice with correct pixels in pale grey and missed, extra or wrong-class pixels in colour.

    Arguments are those of `overlay`. A pixel is missed when the truth holds a class there that the prediction lacks,
    extra in the opposite case, and of the wrong class in both cases.
    """
    part = _slice(image, truth, prediction, classes)
    return page([("", _errors(part))], [_error_entries(part)], title)


def overlay_strip(
    image: ArrayLike, truth: ArrayLike | None, prediction: ArrayLike, classes: Sequence[str], *, title: str = ""
) -> Image.Image:
    """A row: image, truth, prediction and errors, or image and prediction without a truth. Arguments as `overlay`."""
    part = _slice(image, truth, prediction, classes)
    predicted = _outlined(_filled(part.image, part.prediction), part.prediction)
    legend = [_class_entries(classes)]
    if part.truth is None:
        return page([("image", part.image), ("prediction", predicted)], legend, title)
    panels = [
        ("image", part.image),
        ("truth", _outlined(_filled(part.image, part.truth), part.truth)),
        ("prediction", predicted),
        ("errors", _errors(part)),
    ]
    return page(panels, [*legend, _error_entries(part)], title)


def class_colours(number: int) -> list[Colour]:
    """One RGB colour for each class; after the seventh they repeat, half way to white."""
    colours = []
    for index in range(number):
        lighter = 1 - 0.5 ** (index // len(CLASS_COLOURS))
        base = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        colours.append((_mix(base[0], lighter), _mix(base[1], lighter), _mix(base[2], lighter)))
    return colours


def _mix(value: int, lighter: float) -> int:
    return round(value + (255 - value) * lighter)


def _slice(image: ArrayLike, truth: ArrayLike | None, prediction: ArrayLike, classes: Sequence[str]) -> _Slice:
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or pixels.size == 0:
        raise InputError(f"an overlay needs an image [H W] or [H W 3], got {list(pixels.shape)}")
    height, width = pixels.shape[:2]
    masks: list[Mask | None] = []
    for name, stack in (("truth", truth), ("prediction", prediction)):
        mask = None if stack is None else np.asarray(stack).astype(bool)
        if mask is not None and mask.shape != (len(classes), height, width):
            raise InputError(
                f"the {name} of an overlay must be [{len(classes)} {height} {width}] (classes, height, width) like the "
                f"image, got {list(mask.shape)}"
            )
        masks.append(mask)
    factor = min(math.ceil(SHORT_SIDE / min(height, width)), max(1, LONG_SIDE // max(height, width)))
    true, predicted = (None if m is None else m.repeat(factor, axis=1).repeat(factor, axis=2) for m in masks)
    if predicted is None:
        raise InputError("an overlay needs a prediction; give a mask without a voxel for an empty one")
    return _Slice(_enlarged(_stretched(pixels), factor), true, predicted)


def _stretched(pixels: NDArray[np.generic]) -> Canvas:
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        low, high = 0.0, 255.0
    elif pixels.ndim == 3 and low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    grey = np.where(finite, values - low, 0.0) / (high - low if high > low else 1.0)
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def _enlarged(canvas: Canvas, factor: int) -> Canvas:
    if factor == 1:
        return canvas
    picture = Image.fromarray(_bytes(canvas))
    larger = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    return np.asarray(larger, dtype=np.float64) / 255


def _blend(canvas: Canvas, where: Mask, colour: Colour, strength: float) -> Canvas:
    tint = np.array(colour, dtype=np.float64) / 255
    return np.where(where[..., None], (1 - strength) * canvas + strength * tint, canvas)


def _filled(canvas: Canvas, masks: Mask) -> Canvas:
    for mask, colour in zip(masks, class_colours(len(masks)), strict=True):
        canvas = _blend(canvas, mask, colour, _FILL)
    return canvas


def _outlined(canvas: Canvas, masks: Mask) -> Canvas:
    """Draws contours inside the masks' edges, with a dark line outside that makes them visible on bright tissue."""
    thickness = max(1, round(min(canvas.shape[:2]) / 160))
    for mask in masks:
        canvas = _blend(canvas, ndimage.binary_dilation(mask) ^ mask, (0, 0, 0), 0.6)
    for mask, colour in zip(masks, class_colours(len(masks)), strict=True):
        eroded = ndimage.binary_erosion(mask, iterations=thickness, border_value=1)
        canvas = _blend(canvas, eroded ^ mask, colour, 1.0)
    return canvas


def _errors(part: _Slice) -> Canvas:
    if part.truth is None:
        raise InputError("an error map needs the truth beside the prediction")
    missed: Mask = np.logical_or.reduce(part.truth & ~part.prediction)
    extra: Mask = np.logical_or.reduce(part.prediction & ~part.truth)
    right: Mask = np.logical_or.reduce(part.truth & part.prediction) & ~missed & ~extra
    grey = np.repeat(part.image.mean(axis=2, keepdims=True), 3, axis=2) * 0.6
    canvas = _blend(grey, right, ERROR_COLOURS["correct"], _CORRECT)
    for name, where in (("missed", missed & ~extra), ("extra", extra & ~missed), ("wrong class", missed & extra)):
        canvas = _blend(canvas, where, ERROR_COLOURS[name], _ERROR)
    return canvas


Entry = tuple[str, Colour | None]


def _class_entries(classes: Sequence[str]) -> list[Entry]:
    return list(zip(classes, class_colours(len(classes)), strict=True))


def _error_entries(part: _Slice) -> list[Entry]:
    several = len(part.prediction) > 1
    return [(name, colour) for name, colour in ERROR_COLOURS.items() if several or name != "wrong class"]


def page(panels: Sequence[tuple[str, Canvas]], legend: Sequence[Sequence[Entry]], title: str) -> Image.Image:
    """Panels `[H W 3]` in 0..1 of one size side by side, each below its caption, above the rows of a legend."""
    height, width = panels[0][1].shape[:2]
    size = max(13, min(height, width) // 20)
    font, bold = ImageFont.load_default(size), ImageFont.load_default(round(size * 1.15))
    line = round(size * 1.7)
    total = len(panels) * width + (len(panels) + 1) * _GAP
    rows = [row for entries in legend for row in _wrapped(entries, font, size, total - 2 * _GAP)]
    captions = line if any(caption for caption, _ in panels) else 0
    top = _GAP + (line + size // 3 if title else 0)
    picture = Image.new("RGB", (total, top + captions + height + _GAP // 2 + line * len(rows) + _GAP // 2), _PAPER)
    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((_GAP, _GAP + line / 2), _fitted(title, bold, total - 2 * _GAP), fill=_INK, font=bold, anchor="lm")
    for index, (caption, canvas) in enumerate(panels):
        left = _GAP + index * (width + _GAP)
        draw.text((left, top + captions / 2), _fitted(caption, font, width), fill=_INK, font=font, anchor="lm")
        picture.paste(Image.fromarray(_bytes(canvas)), (left, top + captions))
    for number, row in enumerate(rows):
        middle = top + captions + height + _GAP // 2 + line * (number + 0.5)
        left = float(_GAP)
        for text, colour in row:
            if colour is not None:
                box = (left, middle - size / 2, left + size, middle + size / 2)
                draw.rectangle(box, fill=colour, outline=_INK)
                left += size * 1.4
            draw.text((left, middle), text, fill=_INK, font=font, anchor="lm")
            left += font.getlength(text) + size * 1.2
    return picture


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _wrapped(entries: Sequence[Entry], font: Font, size: int, width: int) -> list[list[Entry]]:
    """The entries of a legend in rows that fit the width; names that are too long are cut."""
    rows: list[list[Entry]] = [[]]
    used = 0.0
    for text, colour in entries:
        swatch = size * 1.4 if colour is not None else 0.0
        shown = _fitted(text, font, width - swatch)
        needed = swatch + font.getlength(shown)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append((shown, colour))
        used += needed + size * 1.2
    return rows


def _fitted(text: str, font: Font, width: float) -> str:
    text = one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _bytes(canvas: Canvas) -> NDArray[np.uint8]:
    return np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
