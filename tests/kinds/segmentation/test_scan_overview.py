from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from fewpairs.kinds.segmentation.layouts.folder import ImageFolder
from fewpairs.kinds.segmentation.layouts.nifti import msd
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.overview import summarize_scans


def test_counts(phantom_once: Path) -> None:
    found = summarize_scans(UWMadison(phantom_once), progress=False)
    assert (found.scans, len(found.cases), found.slices) == (12, 6, 96)
    assert sum(found.sizes.values()) == 96
    assert 0 < found.overlap_voxels < sum(found.voxels) < found.all_voxels
    assert all(0 < slices < 96 for slices in found.class_slices)
    assert max(found.class_slices) <= 96 - found.empty_slices
    assert found.errors == []
    assert json.loads(json.dumps(found.as_dict()))["voxels"]["stomach"] == found.voxels[2]


def test_every_unreadable_scan_is_listed_and_the_others_counted(decathlon: Path) -> None:
    for number in (1, 3):
        path = decathlon / "imagesTr" / f"scan_{number}.nii.gz"
        path.write_bytes(path.read_bytes()[:-40])
    found = summarize_scans(msd(decathlon, classes=("a", "b")), progress=False)
    assert found.scans == 2
    assert [message.partition(":")[0] for message in found.errors] == ["scan_1", "scan_3"]
    assert np.isfinite([found.lowest, found.highest]).all()


def test_overlaps_are_voxels_of_two_or_more_classes(decathlon: Path) -> None:
    labels = {"a": 1, "b": 2, "both": (1, 2), "two": 2}
    found = summarize_scans(msd(decathlon, classes=labels), progress=False)
    assert found.overlap_voxels == found.voxels[0] + found.voxels[1]


def test_pictures_with_an_orientation_are_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for name, options in (("images/a.jpg", {"exif": exif}), ("masks/a.png", {})):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / name, **options)
    found = summarize_scans(ImageFolder(tmp_path / "images", tmp_path / "masks", classes=("a",)), progress=False)
    note = "1 images with an EXIF orientation, read as stored: the tag is not followed: a.jpg (orientation 8)"
    assert found.notes == (note,)
    assert found.as_dict()["notes"] == [note]
    assert list(found.sizes) == ["3 x 4"]
