"""Loads a picture file as a model's input, and maps pixels of the file to pixels of the input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from fewpairs.data.pictures import as_channels, read_image, read_picture
from fewpairs.errors import InputError
from fewpairs.inspection.result import Picture, Point
from fewpairs.kinds.classification.view import LabelledView
from fewpairs.kinds.segmentation.intensity import intensity_statistics
from fewpairs.kinds.segmentation.view import SegmentationView
from fewpairs.types import Size


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture that is cut and scaled to the size of the model's input."""

    name: str
    tensor: Tensor
    """`[c H W]`, normalised."""
    picture: Picture
    """`[H W 3]`, the same part for display."""
    native: Size
    """Height and width of the file."""
    box: tuple[float, float, float, float]
    """Top, left, height and width of the part that is used, in pixels of the file; it may reach beyond the file."""

    def point(self, y: float, x: float) -> Point:
        """Converts row and column of the file to row and column of the model's input.

        Raises:
            InputError: the pixel is not in the file, or not in the part that is used.
        """
        height, width = self.native
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(
                f"query {y:g},{x:g} (row, column) lies outside {self.name} of {height} x {width} pixels; rows go from "
                f"0 to {height - 1}, columns from 0 to {width - 1}"
            )
        top, left, tall, wide = self.box
        middle_y, middle_x = y + 0.5, x + 0.5  # the centre of the file's pixel, so that rounding never leaves it
        if not (top <= middle_y < top + tall and left <= middle_x < left + wide):
            raise InputError(
                f"query {y:g},{x:g} (row, column) lies outside the part of {self.name} that the model sees: rows "
                f"{max(top, 0):.0f} to {min(top + tall, height) - 1:.0f}, columns {max(left, 0):.0f} to "
                f"{min(left + wide, width) - 1:.0f}; an input of another size sees another part"
            )
        seen_height, seen_width = self.picture.shape[:2]
        return (middle_y - top) / tall * seen_height, (middle_x - left) / wide * seen_width


def load_image(path: Path, view: LabelledView) -> InputImage:
    """A picture as a classifier's input: its middle, all of it, or all with a border, as `view.crop_mode` says.

    Raises:
        DataError: the picture cannot be read.
    """
    view = view.with_channels(view.channels or 3)
    image = as_channels(read_image(path), view.channels or 3)
    native = image.height, image.width
    top, left, tall, wide = _box(native, view)
    if view.crop_mode == "border":
        # whole pixels, so that the picture is not resampled before it is scaled
        tall, wide = float(round(tall)), float(round(wide))
        top, left = -((tall - native[0]) // 2), -((wide - native[1]) // 2)
        colours = [round(255 * value) for value in view.mean or ()]
        canvas = Image.new(image.mode, (int(wide), int(tall)), colours[0] if len(colours) == 1 else tuple(colours))
        canvas.paste(image, (int(-left), int(-top)))
        part = canvas.resize(view.size[::-1], Image.Resampling.BICUBIC)
    else:
        # clamped, because rounding may lead out of the picture by a fraction of a pixel
        corners = (max(left, 0), max(top, 0), min(left + wide, image.width), min(top + tall, image.height))
        part = image.resize(view.size[::-1], Image.Resampling.BICUBIC, box=corners)
    return InputImage(path.name, view.tensor(part), np.asarray(part.convert("RGB")), native, (top, left, tall, wide))


def _box(native: Size, view: LabelledView) -> tuple[float, float, float, float]:
    height, width = native
    if view.crop_mode == "squash":
        tall, wide = float(height), float(width)
    else:
        scales = height / view.size[0], width / view.size[1]
        scale = max(scales) if view.crop_mode == "border" else min(scales)
        tall, wide = view.size[0] * scale, view.size[1] * scale
    tall, wide = tall * view.crop_pct, wide * view.crop_pct
    return (height - tall) / 2, (width - wide) / 2, tall, wide


def load_slice(path: Path, view: SegmentationView) -> InputImage:
    """A picture as a segmenter's input: a scan of one slice, which also stands for its neighbours.

    Raises:
        DataError: the picture cannot be read.
        InputError: it is larger than a view that pads.
    """
    scan = read_picture(path)[None]
    tensor, geometry = view.apply(scan, intensity_statistics(scan))
    (height, width), (top, left) = geometry.native, geometry.offset
    box = (0.0, 0.0, float(height), float(width))
    if geometry.fit == "pad":
        box = (float(-top), float(-left), float(geometry.model[0]), float(geometry.model[1]))
    # the channels of the slice in the middle of those stacked
    middle = tensor[0].unflatten(0, (view.stack, -1))[view.stack // 2]
    low, high = middle.min(), middle.max()
    shown = ((middle - low) / (high - low if high > low else 1) * 255).round().byte()
    picture = shown[:3] if len(shown) >= 3 else shown[:1].expand(3, -1, -1)
    return InputImage(path.name, tensor[0], picture.permute(1, 2, 0).contiguous().numpy(), geometry.native, box)
