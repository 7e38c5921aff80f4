from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewpairs.data.images import as_channels, check_file, read_image, stored_channels
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
        assert stored_channels(path) == channels


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
    with pytest.raises(DataError, match="No such file"):
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
