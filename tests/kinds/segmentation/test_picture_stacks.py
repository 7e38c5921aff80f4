from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.folder import ImageFolder
from fewpairs.kinds.segmentation.layouts.open import SourceOptions, open_source
from fewpairs.kinds.segmentation.readers import find_inputs, read_input


def save_stack(path: Path, pages: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others)
    return path


def test_a_tiff_of_several_pages_is_a_scan_of_its_pages(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 60000, (5, 6, 7)).astype(np.uint16), rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    save_stack(tmp_path / "images" / "a.tif", image)
    save_stack(tmp_path / "masks" / "a.tif", mask)
    source = ImageFolder(tmp_path / "images", tmp_path / "masks", classes=("one", "two"))
    (scan,) = source.scans()
    assert scan.slice_ids == tuple(f"a_slice_{number:04d}" for number in range(1, 6))
    assert source.notes == (
        "1 stacks, scans of their pages, whose distance is taken as that of their pixels, 1 mm: a.tif",
    )
    read, bits = source.read(scan)
    np.testing.assert_array_equal(read[:, 0], image)
    np.testing.assert_array_equal(unpack(bits, 2)[:, 1], mask == 2)
    (found,) = find_inputs([tmp_path / "images" / "a.tif"])
    given = read_input(found, channels=1)
    np.testing.assert_array_equal(given.image[:, 0], image)
    assert given.slice_ids == scan.slice_ids
    assert "1 mm" in given.notes[0]


def test_the_spacing_of_pictures_can_be_given(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        save_stack(tmp_path / name / "a.tif", np.zeros((5, 6, 7), np.uint8))
        save_stack(tmp_path / name / "b.tif", np.zeros((1, 6, 7), np.uint8))
    plain, spaced = (
        open_source("folder", tmp_path, SourceOptions(classes=("one",), spacing=spacing))
        for spacing in (None, (3.0, 0.5, 0.25))
    )
    assert [scan.spacing for scan in plain.scans()] == [(1.0, 1.0, 1.0)] * 2
    assert [scan.spacing for scan in spaced.scans()] == [(3.0, 0.5, 0.25)] * 2
    assert (len(plain.notes), spaced.notes) == (1, ())
    assert plain.options == {name: value for name, value in spaced.options.items() if name != "spacing"}
    (found,) = find_inputs([tmp_path / "images" / "a.tif"])
    given = read_input(found, channels=1, spacing=(3.0, 0.5, 0.25))
    assert (given.spacing, given.notes) == ((3.0, 0.5, 0.25), ())


@pytest.mark.parametrize(
    "spacing", [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (np.nan, 1.0, 1.0), (np.inf, 1.0, 1.0), (1.0, 1.0)]
)
def test_a_spacing_is_three_positive_numbers(spacing: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spacing=\[.*three positive numbers"):
        ImageFolder(tmp_path, tmp_path, classes=("one",), spacing=spacing)
    with pytest.raises(InputError, match=r"spacing: no option of the layout 'nifti'"):
        open_source("nifti", tmp_path, SourceOptions(classes=("one",), spacing=(1.0, 1.0, 1.0)))


def test_a_stack_and_its_mask_have_equally_many_pages(tmp_path: Path) -> None:
    save_stack(tmp_path / "images" / "a.tif", np.zeros((5, 6, 7), np.uint16))
    save_stack(tmp_path / "masks" / "a.tif", np.zeros((4, 6, 7), np.uint8))
    with pytest.raises(DataError, match=r"a\.tif has 5 pages, but its mask .*a\.tif has 4"):
        ImageFolder(tmp_path / "images", tmp_path / "masks", classes=("one",)).scans()
