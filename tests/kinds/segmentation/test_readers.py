from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import save_picture, save_volume

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.readers import find_inputs, read_input


def test_a_scan_folder_of_the_uw_layout_is_one_scan(phantom_once: Path) -> None:
    inputs = find_inputs([phantom_once])
    assert len(inputs) == 12
    first = read_input(inputs[0])
    assert first.image.shape[:2] == (8, 1)
    assert first.image.dtype == np.uint16
    assert first.slice_ids[0] == f"{first.id}_slice_0001"
    assert first.in_uw_layout
    assert first.spacing[0] == 3.0
    assert first.spacing[1] > 8
    some = find_inputs([inputs[0].files[2], inputs[0].files[1], inputs[0].files[2]])
    assert [item.slice_ids for item in some] == [(f"{first.id}_slice_0002", f"{first.id}_slice_0003")]


def test_volumes_and_pictures(decathlon: Path, pictures: Path) -> None:
    inputs = find_inputs([decathlon / "imagesTr", pictures / "images" / "p0_1.png"])
    assert [item.id for item in inputs] == ["scan_0", "scan_1", "scan_2", "scan_3", "p0_1"] or [
        item.id for item in inputs
    ] == ["p0_1", "scan_0", "scan_1", "scan_2", "scan_3"]
    volume = read_input(next(item for item in inputs if item.id == "scan_2"))
    assert volume.image.shape == (5, 1, 6, 7)
    assert volume.spacing == pytest.approx((2.5, 0.9, 0.8))
    assert volume.volume is not None
    assert not volume.in_uw_layout
    sagittal = read_input(next(item for item in inputs if item.id == "scan_2"), axis=0)
    assert sagittal.image.shape == (7, 1, 5, 6)
    picture = read_input(next(item for item in inputs if item.id == "p0_1"))
    assert picture.image.shape == (1, 1, 9, 8)
    assert picture.slice_ids == ("p0_1",)
    assert not picture.in_uw_layout


def test_channels_are_those_of_the_model(tmp_path: Path) -> None:
    grey = find_inputs([save_picture(tmp_path / "g.png", np.full((4, 5), 7, np.uint8))])[0]
    colour = find_inputs([save_picture(tmp_path / "c.png", np.zeros((4, 5, 3), np.uint8))])[0]
    assert read_input(grey, channels=3).image.shape == (1, 3, 4, 5)
    assert read_input(colour, channels=3).image.shape == (1, 3, 4, 5)
    with pytest.raises(DataError, match=r"c\.png has 3 channels; the model was trained on images with 1"):
        read_input(colour, channels=1)


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images given"):
        find_inputs([])
    with pytest.raises(InputError, match="does not exist"):
        find_inputs([tmp_path / "none.png"])
    with pytest.raises(InputError, match="holds no images"):
        find_inputs([tmp_path])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"notes\.txt is not a readable image"):
        find_inputs([tmp_path / "notes.txt"])
    save_picture(tmp_path / "a" / "x.png", np.zeros((2, 2), np.uint8))
    save_volume(tmp_path / "b" / "x.nii.gz", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="share the name x"):
        find_inputs([tmp_path / "a", tmp_path / "b"])


def test_damage_is_reported_by_file(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "x.png", np.zeros((20, 20), np.uint8))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"x\.png is not a readable picture"):
        read_input(find_inputs([path])[0])
