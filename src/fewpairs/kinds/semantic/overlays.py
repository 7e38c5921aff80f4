"""Images of label maps: in their colours, over the original image, and beside the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fewpairs.errors import InputError
from fewpairs.report.overlay import ERROR_COLOURS, Colour, page
from fewpairs.types import IGNORE

SHOWN = 16
"""Largest number of classes in a legend, which names those with the most pixels."""

_STRENGTH = 0.6
_LEAST, _MOST = 256, 1024
"""Smallest shorter side and largest longer side of a shown image in pixels."""

Labels = NDArray[np.int64]


def paletted(labels: ArrayLike, colours: Sequence[Colour]) -> Image.Image:
    """Convert labels `[H W]` to an image with a palette, whose stored numbers are the labels; `IGNORE` is white."""
    picture = Image.fromarray(np.asarray(labels, np.uint8))
    table = np.full((256, 3), 255, np.uint8)
    table[: len(colours)] = np.array(colours, np.uint8)
    picture.putpalette(table.flatten().tolist())
    return picture


def label_overlay(
    image: ArrayLike, labels: ArrayLike, classes: Sequence[str], colours: Sequence[Colour], *, title: str = ""
) -> Image.Image:
    """Draw the image `[H W 3]` uint8 under its labels `[H W]`, with a legend of the classes in it."""
    pixels, (found,) = _shown(image, [labels])
    return page([("", _tinted(pixels, found, colours))], [_legend([found], classes, colours)], title)


def label_strip(
    image: ArrayLike,
    truth: ArrayLike,
    prediction: ArrayLike,
    classes: Sequence[str],
    colours: Sequence[Colour],
    *,
    title: str = "",
) -> Image.Image:
    """Draw one row: image `[H W 3]` uint8, true labels, predicted labels `[H W]`, and their differences."""
    pixels, (true, found) = _shown(image, [truth, prediction])
    scored = true != IGNORE
    errors = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) * 0.6
    for where, name in ((scored & (true == found), "correct"), (scored & (true != found), "missed")):
        tint = np.array(ERROR_COLOURS[name]) / 255
        errors = np.where(where[..., None], (1 - _STRENGTH) * errors + _STRENGTH * tint, errors)
    panels = [
        ("image", pixels),
        ("truth", _tinted(pixels, true, colours)),
        ("prediction", _tinted(pixels, found, colours)),
        ("errors", errors),
    ]
    marks = [("right", ERROR_COLOURS["correct"]), ("wrong", ERROR_COLOURS["missed"])]
    return page(panels, [_legend([true, found], classes, colours), list(marks)], title)


def _shown(image: ArrayLike, maps: Sequence[ArrayLike]) -> tuple[NDArray[np.float64], list[Labels]]:
    """Resize all to the size at which they are shown; the image is scaled to 0..1."""
    pixels = np.asarray(image, np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    arrays = [np.asarray(one, np.uint8) for one in maps]
    if any(one.shape != pixels.shape[:2] for one in arrays):
        raise InputError(f"label maps {[list(one.shape) for one in arrays]} for an image of {list(pixels.shape[:2])}")
    height, width = pixels.shape[:2]
    factor = max(1.0, _LEAST / min(height, width))
    factor = min(factor, _MOST / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    photograph = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    resized = [
        np.asarray(Image.fromarray(one).resize(size, Image.Resampling.NEAREST)).astype(np.int64) for one in arrays
    ]
    return np.asarray(photograph, np.float64) / 255, resized


def _tinted(pixels: NDArray[np.float64], labels: Labels, colours: Sequence[Colour]) -> NDArray[np.float64]:
    """Blend the image with the colours of its labels; black classes and `IGNORE` leave it unchanged."""
    table = np.zeros((256, 3))
    table[: len(colours)] = np.array(colours) / 255
    strength = _STRENGTH * (table.max(axis=1, keepdims=True) > 0)
    mixed: NDArray[np.float64] = pixels + strength[labels] * (table[labels] - pixels)
    return mixed


def _legend(
    maps: Sequence[Labels], classes: Sequence[str], colours: Sequence[Colour]
) -> list[tuple[str, Colour | None]]:
    counts = sum(np.bincount(one.ravel(), minlength=256) for one in maps)[: len(classes)]  # type: ignore[index]
    order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
    entries: list[tuple[str, Colour | None]] = [(classes[place], colours[place]) for place in sorted(order[:SHOWN])]
    return [*entries, (f"and {len(order) - SHOWN} more", None)] if len(order) > SHOWN else entries
