from __future__ import annotations

import csv
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import AFFINE, save_picture, save_volume
from PIL import Image

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.uw_madison import UWMadison
from fewpairs.kinds.segmentation.losses import exclusive_target
from fewpairs.kinds.segmentation.readers import find_inputs, read_input
from fewpairs.kinds.segmentation.rle import rle_decode
from fewpairs.kinds.segmentation.writers import SubmissionRow, label_map, submission_rows, write_masks, write_submission
from fewpairs.writing import atomic_path


def test_the_last_class_wins_where_they_overlap_as_in_training() -> None:
    masks = np.zeros((1, 3, 1, 4), bool)
    masks[0, 0, 0, :2], masks[0, 1, 0, 1:3], masks[0, 2, 0, 2:] = True, True, True
    np.testing.assert_array_equal(label_map(masks)[0, 0], [1, 2, 3, 3])
    trained = exclusive_target(torch.from_numpy(masks).float()).argmax(1)
    np.testing.assert_array_equal(label_map(masks), trained)
    with pytest.raises(InputError, match="256 classes"):
        label_map(np.zeros((1, 256, 1, 1), bool))


@settings(max_examples=15)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.sampled_from([0, 1, 2]))
def test_labels_lie_where_the_image_lies_in_any_orientation(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], signs: tuple[float, ...], axis: int
) -> None:
    folder = tmp_path_factory.mktemp("volumes")
    labels = np.random.default_rng(0).integers(0, 3, (5, 4, 3)).astype(np.float32)
    turned = nibabel.Nifti1Image(labels, AFFINE).as_reoriented(np.array([[order[i], signs[i]] for i in range(3)]))
    turned.header.set_xyzt_units("mm")
    nibabel.save(turned, folder / "scan.nii.gz")
    source = read_input(find_inputs([folder / "scan.nii.gz"])[0], axis=axis)
    masks = np.concatenate([source.image == 1, source.image == 2], axis=1)
    (path,) = write_masks(source, masks, folder / "out", ("a", "b"))
    written = nibabel.load(path)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(turned.dataobj))
    np.testing.assert_array_equal(written.affine, nibabel.load(folder / "scan.nii.gz").affine)
    assert written.header.get_zooms() == turned.header.get_zooms()
    assert written.get_data_dtype() == np.uint8
    for code in ("sform_code", "qform_code", "xyzt_units"):
        assert written.header[code] == turned.header[code]


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3, 2)])
def test_shapes_are_kept_less_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save_volume(tmp_path / "in.nii", np.zeros(shape, np.int16))
    source = read_input(find_inputs([path])[0])
    (out,) = write_masks(source, np.ones((source.image.shape[0], 1, *source.size), bool), tmp_path / "out", ("a",))
    assert nibabel.load(out).shape == shape[:3]
    assert out.name == "in.nii.gz"


def test_the_scale_of_the_image_does_not_reach_the_labels(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16), AFFINE)
    image.header.set_slope_inter(0.01, 50)
    nibabel.save(image, tmp_path / "in.nii")
    source = read_input(find_inputs([tmp_path / "in.nii"])[0])
    (out,) = write_masks(source, np.ones((3, 1, 3, 3), bool), tmp_path / "out", ("a",))
    assert set(np.asarray(nibabel.load(out).dataobj).ravel().tolist()) == {1}


def test_pictures_become_palette_pngs(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "p.png", np.zeros((4, 6), np.uint8))
    source = read_input(find_inputs([path])[0])
    masks = np.zeros((1, 2, 4, 6), bool)
    masks[0, 0, :2], masks[0, 1, 0] = True, True
    written = write_masks(source, masks, tmp_path / "out", ("a", "b"), separate=True)
    assert [file.name for file in written] == ["p.png", "p_a.png", "p_b.png"]
    picture = Image.open(written[0])
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), label_map(masks)[0])
    colours = np.asarray(picture.convert("RGB"))
    assert len({tuple(colours[y, 0].tolist()) for y in (0, 1, 3)}) == 3
    assert tuple(colours[3, 0]) == (0, 0, 0)
    np.testing.assert_array_equal(np.asarray(Image.open(written[2])), masks[0, 1])


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    source = read_input(find_inputs([save_picture(tmp_path / "p.png", np.zeros((4, 6), np.uint8))])[0])
    with pytest.raises(InputError, match=r"\(1, 1, 6, 4\) instead of \(1, 1, 4, 6\)"):
        write_masks(source, np.zeros((1, 1, 6, 4), bool), tmp_path / "out", ("a",))


def test_a_submission_holds_what_the_table_held(phantom_once: Path, tmp_path: Path) -> None:
    source = UWMadison(phantom_once)
    scans = source.scans()
    rows: list[SubmissionRow] = []
    for scan in scans:
        masks = unpack(source.read(scan)[1], 3)
        rows += submission_rows(scan.slice_ids, masks)
    write_submission(tmp_path / "submission.csv", rows, source.classes)
    with (tmp_path / "submission.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["id", "class", "predicted"]
    with (phantom_once / "train.csv").open(newline="") as file:
        assert sorted(lines[1:]) == sorted(list(csv.reader(file))[1:])
    assert any(rle_decode(row[2], scans[0].size).any() for row in lines[1:25])


def test_a_failed_submission_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("old")
    row = ("x", ("1 2",))
    with pytest.raises(InputError, match="slice x is predicted twice"):
        write_submission(path, [row, row], ("a",))
    with pytest.raises(InputError, match="1 masks for the 2 classes"):
        write_submission(path, [row], ("a", "b"))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["submission.csv"]


def test_files_are_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.nii.gz"

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write .*file\.nii\.gz: No space left"):
        fail()
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    with pytest.raises(DataError, match="cannot write"), atomic_path(path / "below" / "x.png"):
        pass
