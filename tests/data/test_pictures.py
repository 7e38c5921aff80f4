from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.data.pictures import picture_layout, read_indices, read_picture
from fewpairs.errors import DataError


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_keeps_its_depth(tmp_path: Path, dtype: type) -> None:
    pixels = np.linspace(0, np.iinfo(dtype).max, 12).astype(dtype).reshape(3, 4)
    path = save_picture(tmp_path / "a.png", pixels)
    assert picture_layout(path) == ((3, 4), 1)
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
    assert picture_layout(tmp_path / "p.png") == ((3, 4), 3)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "p.png"), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(read_indices(tmp_path / "p.png"), np.asarray(palette))


def test_a_colour_picture_is_no_label_map(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is in colour.*colours="):
        read_indices(path)


def test_one_bit_masks(tmp_path: Path) -> None:
    mask = np.eye(4, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_indices(tmp_path / "m.png"), mask)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kept", [0, 5, 20, 30, 45])
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
