from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import COLOUR, FORMS, RAMP, save_picture, stored
from PIL import Image

from fewpairs.data.pictures import (
    Header,
    as_channels,
    check_file,
    mask_files,
    read_colours,
    read_header,
    read_image,
    read_indices,
    read_mask_header,
    read_picture,
)
from fewpairs.errors import DataError


def test_grey_stays_grey_and_colour_colour() -> None:
    grey, colour = Image.fromarray(RAMP), Image.fromarray(COLOUR)
    for image, mode, pixels in ((grey, "L", RAMP), (colour, "RGB", COLOUR)):
        read = read_image(stored(image, "PNG"))
        assert read.mode == mode
        np.testing.assert_array_equal(np.asarray(read), pixels)


def test_16_bits_keep_their_high_byte() -> None:
    deep = RAMP.astype(np.uint16) << 8 | 0x7F
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(np.asarray(read_image(stored(Image.fromarray(deep), form))), RAMP)
    wide = Image.fromarray(deep.astype(np.int32))
    np.testing.assert_array_equal(np.asarray(read_image(stored(wide, "TIFF"))), RAMP)


def test_floating_point_counts_from_0_to_1() -> None:
    unit = Image.fromarray((RAMP / 255).astype(np.float32))
    np.testing.assert_array_equal(np.asarray(read_image(stored(unit, "TIFF"))), RAMP)
    for wrong in (RAMP.astype(np.float32), RAMP.astype(np.float32) * np.nan, RAMP / 255 - 0.5):
        with pytest.raises(DataError, match=r"read from 0 to 1;"):
            read_image(stored(Image.fromarray(wrong.astype(np.float32)), "TIFF"))
    with pytest.raises(DataError, match="read from 0 to 65535"):
        read_image(stored(Image.fromarray(RAMP.astype(np.int32) - 1), "TIFF"))


def test_alpha_is_left_out() -> None:
    alpha = np.full((8, 8, 1), 9, np.uint8)
    colour = read_image(stored(Image.fromarray(np.concatenate([COLOUR, alpha], -1)), "PNG"))
    np.testing.assert_array_equal(np.asarray(colour), COLOUR)
    grey = read_image(stored(Image.fromarray(np.concatenate([RAMP[..., None], alpha], -1)), "PNG"))
    np.testing.assert_array_equal(np.asarray(grey), RAMP)


def test_palettes_become_their_colours_also_with_transparency() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    for options in ({}, {"transparency": bytes([0, 120, 255])}, {"transparency": 3}):
        np.testing.assert_array_equal(np.asarray(read_image(stored(palette, "PNG", **options))), expected)


def test_print_colours_and_bilevel() -> None:
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    assert read_image(stored(cmyk, "TIFF")).mode == "RGB"
    bilevel = read_image(stored(Image.fromarray(RAMP > 100), "PNG"))
    np.testing.assert_array_equal(np.asarray(bilevel), np.where(RAMP > 100, 255, 0))


def test_channels_are_repeated_or_weighed() -> None:
    grey, colour = Image.fromarray(RAMP), Image.fromarray(COLOUR)
    assert as_channels(grey, 1) is grey
    np.testing.assert_array_equal(np.asarray(as_channels(grey, 3)), np.repeat(RAMP[..., None], 3, -1))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(np.asarray(as_channels(colour, 1)), luma, atol=1)


def test_channels_by_the_header(tmp_path: Path) -> None:
    for name, image, channels in (
        ("l", Image.fromarray(RAMP), 1),
        ("i16", Image.fromarray(RAMP.astype(np.uint16)), 1),
        ("rgb", Image.fromarray(COLOUR), 3),
        ("p", Image.fromarray(COLOUR).quantize(4), 3),
    ):
        path = tmp_path / f"{name}.png"
        image.save(path)
        assert read_header(path).channels == channels


@pytest.mark.parametrize("form", FORMS)
def test_truncated_files_of_every_format_are_found(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = stored(Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)), form)
    path = tmp_path / f"x{FORMS[form]}"
    for decode in (False, True):
        path.write_bytes(whole)
        check_file(path, decode=decode)
        for kept in (len(whole) // 2, len(whole) // 4, 20):
            path.write_bytes(whole[:kept])
            with pytest.raises(DataError, match="not a readable picture"):
                check_file(path, decode=decode)


def test_empty_missing_and_other_files(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.jpg", tmp_path / "text.jpg"
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"empty\.jpg is empty \(0 bytes\)"):
        check_file(empty, decode=False)
    with pytest.raises(DataError, match=r"missing\.jpg does not exist"):
        check_file(tmp_path / "missing.jpg", decode=False)
    with pytest.raises(DataError, match=r"text\.jpg is not a readable picture"):
        check_file(text, decode=False)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "trailing.jpg"
    path.write_bytes(stored(Image.fromarray(COLOUR), "JPEG") + b"\n\ntrailing")
    check_file(path, decode=False)


@given(st.data(), st.sampled_from(sorted(FORMS)))
def test_damage_of_any_kind_is_a_data_error_or_none(data: st.DataObject, form: str) -> None:
    content = bytearray(stored(Image.fromarray(COLOUR), form))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        said = read_image(bytes(content), "it").mode
    except DataError as error:
        said = str(error)
    assert said in ("L", "RGB") or said.startswith("it ")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_keeps_its_depth(tmp_path: Path, dtype: type) -> None:
    pixels = np.linspace(0, np.iinfo(dtype).max, 12).astype(dtype).reshape(3, 4)
    path = save_picture(tmp_path / "a.png", pixels)
    assert read_header(path) == Header((3, 4), 1, 1)
    found = read_picture(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[0], pixels)


def test_deep_colour_keeps_its_depth(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 4, 3)).astype(np.uint16)
    path = tmp_path / "deep.png"
    write_deep_png(path, pixels)
    found = read_picture(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))


def write_deep_png(path: Path, pixels: np.ndarray) -> None:
    """A PNG of 16 bits a colour, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def test_colour_alpha_and_palette(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    alpha = np.dstack([rgb, np.full((3, 4), 7, np.uint8)])
    np.testing.assert_array_equal(read_picture(save_picture(tmp_path / "a.png", alpha)), rgb.transpose(2, 0, 1))
    palette = Image.fromarray(rgb).quantize(12)
    palette.save(tmp_path / "p.png")
    assert read_header(tmp_path / "p.png") == Header((3, 4), 3, 1)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "p.png"), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(read_indices(tmp_path / "p.png"), np.asarray(palette))


def test_a_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png", np.full((3, 4, 3), (7, 7, 8), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is in colour.*colours="):
        read_indices(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_grey_mask_in_three_equal_channels_is_grey(mode: str, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 255], [7, 7, 0]], np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(labels).convert("RGB").convert(mode).save(path)
    np.testing.assert_array_equal(read_indices(path), labels)
    pixels = np.repeat(labels[..., None], 3, -1)
    pixels[1, 2, 0] = 1
    with pytest.raises(DataError, match="in colour"):
        read_indices(save_picture(path, pixels))


def test_deep_grey_masks_in_colour_keep_their_depth(tmp_path: Path) -> None:
    labels = np.array([[0, 300], [65535, 1]], np.uint16)
    write_deep_png(tmp_path / "a.png", np.repeat(labels[..., None], 3, -1))
    np.testing.assert_array_equal(read_indices(tmp_path / "a.png"), labels)


LOSSLESS = {"PNG": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "GIF": {}, "PPM": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("form", LOSSLESS)
def test_masks_of_every_lossless_format_keep_their_numbers(form: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (9, 11), np.uint8)
    path = tmp_path / f"x{FORMS[form].upper()}"
    path.write_bytes(stored(Image.fromarray(labels), form, **LOSSLESS[form]))
    np.testing.assert_array_equal(read_indices(path), labels)
    assert read_mask_header(path).size == (9, 11)
    assert mask_files(tmp_path) == {"x": path}


@pytest.mark.parametrize(
    ("form", "options", "words"),
    [
        ("JPEG", {"quality": 100}, "JPEG changes"),
        ("WEBP", {"quality": 100}, "lossy WebP changes"),
        ("WEBP", {"quality": 100, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, "lossy WebP changes"),
        ("TIFF", {"compression": "jpeg"}, "TIFF with jpeg compression changes"),
    ],
)
def test_masks_whose_content_is_lossy_are_refused_whatever_their_name(
    form: str, options: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(stored(Image.fromarray(RAMP), form, **options))
    for read in (read_indices, read_colours, read_mask_header):
        with pytest.raises(DataError, match=rf"mask\.png: {words} pixel values"):
            read(path)


def test_masks_with_a_suffix_of_jpeg_are_refused_together(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.JPG: JPEG changes pixel values.* \(2 such\)"):
        mask_files(tmp_path)


def test_one_bit_masks(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "m.png"), mask)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kept", [5, 20, 30, 45])
def test_every_truncation_is_reported(tmp_path: Path, deep: bool, kept: int) -> None:
    path = tmp_path / "cut.png"
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40, 3)).astype(np.uint16)
    if deep:
        write_deep_png(path, pixels)
    else:
        save_picture(path, pixels[:, :, 0])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cut\.png is not a readable picture"):
        read_picture(path)


def test_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_picture(tmp_path / "none.png")


@given(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]))
def test_8_bits_and_the_stored_depth_agree(mode: str) -> None:
    content = stored(Image.fromarray(COLOUR).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    with NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        deep = read_picture(Path(file.name))
    eight = np.asarray(read_image(content))
    planes = eight[None] if eight.ndim == 2 else eight.transpose(2, 0, 1)
    np.testing.assert_array_equal(planes, deep * 255 if mode == "1" else deep)
