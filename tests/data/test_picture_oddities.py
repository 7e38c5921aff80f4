"""Orientations, several pages, pixels that are not finite, and pictures that are too large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_files import COLOUR, FORMS, RAMP, stored
from PIL import Image

from fewpairs.data.pictures import (
    Header,
    check_file,
    read_header,
    read_image,
    read_indices,
    read_picture,
    turned_hint,
)
from fewpairs.errors import DataError


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP"])
def test_an_orientation_is_told_and_never_followed(form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"x{FORMS[form]}"
    path.write_bytes(stored(Image.fromarray(COLOUR[:4]), form, exif=exif))
    assert read_header(path) == check_file(path, decode=True) == Header((4, 8), 3, 6)
    pixels = np.asarray(read_image(path))
    assert pixels.shape == (4, 8, 3)
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), read_picture(path))
    if form == "TIFF":
        np.testing.assert_array_equal(pixels, COLOUR[:4])


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_no_tiff_is_turned(orientation: int, compression: str | None, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.tif"
    Image.fromarray(RAMP[:4]).save(path, exif=exif, compression=compression)
    assert read_header(path) == Header((4, 8), 1, orientation)
    np.testing.assert_array_equal(np.asarray(read_image(path)), RAMP[:4])
    np.testing.assert_array_equal(read_indices(path), RAMP[:4])


def test_an_orientation_in_a_png_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(RAMP[:4]).save(tmp_path / "x.png", exif=exif)
    assert read_header(tmp_path / "x.png") == Header((4, 8), 1, 8)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "x.png")), RAMP[:4])


@pytest.mark.parametrize(
    ("orientation", "expected", "said"), [(6, (8, 4), True), (3, (8, 4), False), (6, (8, 5), False), (1, (8, 4), False)]
)
def test_sizes_that_fit_turned_pixels_alone_are_told(orientation: int, expected: tuple[int, int], said: bool) -> None:
    assert bool(turned_hint(Header((4, 8), 3, orientation), expected)) == said


def test_a_damaged_orientation_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(stored(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0XX*\0\0\0\0\x08"))
    assert check_file(path, decode=True).orientation == 1


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG", "WEBP"])
def test_several_pages_or_frames_are_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.{form.lower()}"
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(RAMP).save(path, form, save_all=True, append_images=[Image.fromarray(RAMP.T)], **options)
    for read in (read_image, read_picture, read_indices, read_header):
        with pytest.raises(DataError, match=rf"x\.{form.lower()} has 2 (pages|frames).*file of its own"):
            read(path)


def test_pages_of_a_stack_are_read_by_their_number(tmp_path: Path) -> None:
    pages = [(RAMP + number).astype(np.uint16) for number in range(4)]
    path = tmp_path / "x.tif"
    Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(page) for page in pages[1:]])
    assert read_header(path, stack=True).pages == 4
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(read_picture(path, number)[0], page)
        np.testing.assert_array_equal(read_indices(path, number), page)


def test_a_reduced_copy_in_a_tiff_is_no_page(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    small = Image.fromarray(RAMP[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(RAMP).save(path, save_all=True, append_images=[small])
    np.testing.assert_array_equal(np.asarray(read_image(path)), RAMP)


def test_an_imagej_stack_of_channels_is_refused(tmp_path: Path) -> None:
    path, page = tmp_path / "x.tif", Image.fromarray(RAMP)
    told = "ImageJ=1.53\nimages=4\nchannels=2\nslices=2\n"
    page.save(path, save_all=True, append_images=[page] * 3, tiffinfo={270: told})
    with pytest.raises(DataError, match="ImageJ stack of 2 channels"):
        read_picture(path, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    pixels = np.zeros((8, 8), np.float32)
    pixels[0, :2] = value
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    for read in (read_picture, read_indices):
        with pytest.raises(DataError, match=r"x\.tif holds 2 pixels that are not finite"):
            read(tmp_path / "x.tif")


def test_a_picture_beyond_pillow_s_limit_says_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    assert read_image(tmp_path / "x.png").size == (8, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match=r"x\.png claims more than 40 pixels, the most that are read; cut it"):
        read_image(tmp_path / "x.png")
