from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import save_picture
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.folder import ImageFolder


def folder(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(root / "images", root / "masks", **{"classes": ("a", "b"), **options})  # type: ignore[arg-type]


def read_all(source: ImageFolder) -> None:
    for scan in source.scans():
        source.read(scan)


def test_label_numbers(pictures: Path) -> None:
    source = folder(pictures, case_pattern="(.+)_[0-9]+")
    scans = source.scans()
    assert [(scan.id, scan.case, scan.size) for scan in scans] == [
        ("p0_1", "p0", (9, 8)),
        ("p1_1", "p1", (9, 8)),
        ("p2_1", "p2", (6, 10)),
    ]
    image, mask = source.read(scans[2])
    assert image.shape == (1, 1, 6, 10)
    labels = np.asarray(Image.open(scans[2].files[1]))
    np.testing.assert_array_equal(unpack(mask, 2)[0], [labels == 1, labels == 2])


def test_a_class_without_a_pixel_is_an_error_in_the_check_and_in_training(pictures: Path, tmp_path: Path) -> None:
    from fewpairs.kinds.segmentation.experiment import SegmentationDataConfig
    from fewpairs.kinds.segmentation.layouts.open import SourceOptions
    from fewpairs.kinds.segmentation.open_store import open_store
    from fewpairs.kinds.segmentation.overview import overview

    options = SourceOptions(classes=("a", "b", "c"))
    config = SegmentationDataConfig(kind="folder", root=str(pictures), source=options, cache=str(tmp_path / "cache"))
    said = r"no label holds a voxel of c; correct the stored numbers, or name only classes that occur"
    with pytest.raises(DataError, match=said):
        open_store(config, progress=False)
    found = overview("folder", pictures, options, decode=False, progress=False)
    assert found.failure is not None
    assert found.failure.startswith(f"{pictures}: no label holds a voxel of c")
    assert overview("folder", pictures, SourceOptions(classes=("a", "b")), decode=False, progress=False).failure is None


@pytest.mark.parametrize(("suffix", "lossless"), [("webp", {"lossless": True}), ("TIF", {}), ("gif", {})])
def test_pictures_and_masks_of_other_formats(pictures: Path, suffix: str, lossless: dict[str, bool]) -> None:
    before = [folder(pictures).read(scan)[1] for scan in folder(pictures).scans()]
    (pictures / "images" / "more.heic").touch()
    (pictures / "images" / "train").mkdir()
    for side in ("images", "masks"):
        for path in sorted((pictures / side).glob("*.png")):
            with Image.open(path) as image:
                image.convert("L").save(path.with_suffix(f".{suffix}"), **lossless)
            path.unlink()
    source = folder(pictures)
    scans = source.scans()
    assert source.notes == (
        "left out files that no reader takes: 1 x .heic (more.heic)",
        "left out folders, of which no pictures are read: images/train",
    )
    for scan, mask in zip(scans, before, strict=True):
        np.testing.assert_array_equal(source.read(scan)[1], mask)


def test_colours(pictures: Path) -> None:
    colours = {"b": (255, 0, 0), "a": (1, 2, 3)}
    for path in (pictures / "masks").iterdir():
        labels = np.asarray(Image.open(path))
        save_picture(path, np.array([(0, 0, 0), (1, 2, 3), (255, 0, 0)], np.uint8)[labels])
        last = labels
    source = folder(pictures, colours=colours)
    read_all(source)
    scan = next(scan for scan in source.scans() if scan.files[1] == path)
    np.testing.assert_array_equal(unpack(source.read(scan)[1], 2)[0], [last == 1, last == 2])
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] = (9, 9, 9)
    save_picture(path, pixels)
    with pytest.raises(DataError, match=rf"{path.name} holds 1 colours.*\(9, 9, 9\)"):
        read_all(source)


def test_grey_and_colour_pictures_mix(pictures: Path) -> None:
    save_picture(pictures / "images" / "p0_1.png", np.full((9, 8, 3), 5, np.uint8))
    source = folder(pictures)
    assert source.channels == 3
    for scan in source.scans():
        assert source.read(scan)[0].shape[1] == 3


def test_everything_but_zero_is_the_class(pictures: Path) -> None:
    save_picture(pictures / "masks" / "p0_1.png", np.array([[0, 300] * 4] * 9, np.uint16))
    source = folder(pictures, classes=("cell",), nonzero=True)
    assert source.read(source.scans()[0])[1].sum() == 36
    with pytest.raises(InputError, match="single class"):
        folder(pictures, nonzero=True)


def test_labels_outside_the_classes(pictures: Path) -> None:
    save_picture(pictures / "masks" / "p1_1.png", np.full((9, 8), 255, np.uint8))
    with pytest.raises(DataError, match=r"p1_1\.png holds the label 255 outside the classes \(.*a=1, b=2\)"):
        read_all(folder(pictures))


def test_another_size(pictures: Path) -> None:
    save_picture(pictures / "masks" / "p1_1.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(DataError, match=r"p1_1\.png has 9 rows of 8 pixels, but its mask .* has 8 of 9"):
        folder(pictures).scans()


@pytest.mark.parametrize(("gone", "said"), [("masks", "no mask"), ("images", "no image")])
def test_an_image_without_its_mask_and_the_other_way_round(pictures: Path, gone: str, said: str) -> None:
    (pictures / gone / "p1_1.png").unlink()
    with pytest.raises(DataError, match=f"p1_1.png has {said} of that name"):
        folder(pictures).scans()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="images holds no pictures"):
        folder(tmp_path).scans()


def test_masks_in_jpeg_are_refused(pictures: Path) -> None:
    Image.new("L", (8, 9)).save(pictures / "masks" / "p0_1.jpg")
    with pytest.raises(DataError, match="JPEG changes pixel values"):
        folder(pictures).scans()


def test_two_pictures_of_one_name(pictures: Path) -> None:
    Image.new("L", (8, 9)).save(pictures / "images" / "p0_1.bmp")
    with pytest.raises(DataError, match="same name but for the suffix"):
        folder(pictures).scans()


def test_a_truncated_picture(pictures: Path) -> None:
    path = pictures / "images" / "p0_1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"images/p0_1\.png is not a readable picture"):
        read_all(folder(pictures))


@pytest.mark.parametrize(
    "colours",
    [
        {"a": (1, 2, 3)},
        {"a": (1, 2, 3), "b": (0, 0, 0)},
        {"a": (1, 2, 3), "b": (1, 2, 3)},
        {"a": (1, 2), "b": (3, 4, 5)},
        {"a": (1, 2, 300), "b": (3, 4, 5)},
        {"a": (1, 2, 3), "b": (3, 4, 5), "c": (6, 7, 8)},
    ],
)
def test_colours_that_cannot_be(pictures: Path, colours: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match="colour"):
        folder(pictures, colours=colours)


@pytest.mark.data
def test_real_nuclei(real_data: Path) -> None:
    source = folder(real_data / "dsb2018-nuclei", classes=("nucleus",), nonzero=True)
    scans = source.scans()
    assert (len(scans), source.channels) == (471, 3)
    image, mask = source.read(scans[0])
    assert image.shape == (1, 3, *scans[0].size)
    assert 0 < mask.mean() < 1


@pytest.mark.data
def test_real_hearts(real_data: Path) -> None:
    colours = {
        "left ventricle": (255, 0, 0),
        "right ventricle": (0, 0, 255),
        "left atrium": (255, 255, 0),
        "right atrium": (0, 255, 255),
        "aorta": (0, 255, 0),
        "pulmonary artery": (255, 255, 255),
        "superior vena cava": (255, 0, 255),
        "inferior vena cava": (128, 128, 128),
    }
    root = real_data / "hvsmr2-heart-mri-sample"
    source = folder(root, classes=tuple(colours), colours=colours, case_pattern="([0-9]+)_[0-9]+")
    scans = source.scans()
    assert (len(scans), len({scan.case for scan in scans})) == (36, 5)
    read_all(source)
