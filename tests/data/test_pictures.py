from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    turned_hint,
)
from fewpairs.errors import DataError

RAMP = np.arange(0, 256, 4, np.uint8).reshape(8, 8)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)


def stored(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


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


FORMS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp", "PPM": ".ppm"}


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


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


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


@given(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]))
def test_8_bits_and_the_stored_depth_agree(mode: str) -> None:
    content = stored(Image.fromarray(COLOUR).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    with NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        deep = read_picture(Path(file.name))
    eight = np.asarray(read_image(content))
    planes = eight[None] if eight.ndim == 2 else eight.transpose(2, 0, 1)
    np.testing.assert_array_equal(planes, deep * 255 if mode == "1" else deep)
