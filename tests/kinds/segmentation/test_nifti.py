from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_files import AFFINE, save_volume

from fewpairs.errors import DataError, InputError
from fewpairs.kinds.segmentation.bitmask import unpack
from fewpairs.kinds.segmentation.layouts.nifti import Nifti, msd
from fewpairs.kinds.segmentation.volumes import Volume


def read_all(source: Nifti) -> None:
    for scan in source.scans():
        source.read(scan)


def test_a_decathlon_task_without_its_table(decathlon: Path) -> None:
    source = msd(decathlon, classes=("front", "back"))
    scans = source.scans()
    assert [scan.id for scan in scans] == [f"scan_{number}" for number in range(4)]
    assert [scan.case for scan in scans] == [scan.id for scan in scans]
    assert scans[0].spacing == pytest.approx((2.5, 0.9, 0.8))
    assert scans[0].size == (6, 7)
    assert scans[0].slice_ids[0] == "scan_0_slice_0001"
    image, mask = source.read(scans[1])
    assert image.shape == (5, 1, 6, 7)
    assert image.dtype == np.float32
    labels = Volume.open(scans[1].files[1]).read()[:, 0]
    np.testing.assert_array_equal(unpack(mask, 2)[:, 0], labels == 1)
    np.testing.assert_array_equal(unpack(mask, 2)[:, 1], labels == 2)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "front", "2": "back"},
        {"background": 0, "front": 1, "back": 2},
    ],
    ids=["decathlon", "nnunet"],
)
def test_the_table_names_the_classes(decathlon: Path, labels: dict[str, object]) -> None:
    (decathlon / "dataset.json").write_text(json.dumps({"labels": labels}))
    source = msd(decathlon)
    assert source.classes == ("front", "back")
    assert source.shared_files == (decathlon / "dataset.json",)
    read_all(source)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": 3}'])
def test_a_damaged_table(decathlon: Path, content: str) -> None:
    (decathlon / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json does not name the labels"):
        msd(decathlon)


def test_no_table_and_no_classes(decathlon: Path) -> None:
    with pytest.raises(InputError, match="give classes="):
        msd(decathlon)


def test_regions_may_overlap_and_a_plain_pair_of_folders_works(decathlon: Path) -> None:
    source = Nifti(decathlon / "imagesTr", decathlon / "labelsTr", classes={"whole": (1, 2), "core": 2}, axis=0)
    scan = source.scans()[0]
    assert (len(scan.slice_ids), scan.size) == (7, (5, 6))
    masks = unpack(source.read(scan)[1], 2)
    assert masks[:, 1].any()
    assert not (masks[:, 1] & ~masks[:, 0]).any(), "the core lies inside the whole"


def test_float_labels_with_whole_values_are_labels(decathlon: Path) -> None:
    path = decathlon / "labelsTr" / "scan_0.nii.gz"
    save_volume(path, np.asarray(np.random.default_rng(0).integers(0, 3, (7, 6, 5)), np.float32))
    read_all(msd(decathlon, classes=("a", "b")))
    save_volume(path, np.full((7, 6, 5), 0.5, np.float32))
    with pytest.raises(DataError, match=r"scan_0\.nii\.gz holds labels that are not whole numbers, as 0\.5"):
        read_all(msd(decathlon, classes=("a", "b")))


def test_labels_outside_the_classes_are_named(decathlon: Path) -> None:
    with pytest.raises(DataError, match=r"scan_0\.nii\.gz holds the label 2 outside the classes \(background=0, a=1\)"):
        read_all(msd(decathlon, classes=("a",)))
    source = msd(decathlon, classes=("a",), other_labels="background")
    assert source.read(source.scans()[0])[1].max() == 1


def test_negative_labels_are_outside_the_classes(decathlon: Path) -> None:
    save_volume(decathlon / "labelsTr" / "scan_2.nii.gz", np.full((7, 6, 5), -1, np.int16))
    with pytest.raises(DataError, match="label -1 outside"):
        read_all(msd(decathlon, classes=("a", "b")))


def test_another_shape(decathlon: Path) -> None:
    save_volume(decathlon / "labelsTr" / "scan_3.nii.gz", np.zeros((7, 6, 4), np.uint8))
    with pytest.raises(DataError, match=r"scan_3.*\(7, 6, 5\).*\(7, 6, 4\)"):
        msd(decathlon, classes=("a", "b")).scans()


def test_another_affine(decathlon: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 5
    save_volume(decathlon / "labelsTr" / "scan_3.nii.gz", np.zeros((7, 6, 5), np.uint8), moved)
    with pytest.raises(DataError, match=r"scan_3.*do not lie in the same place"):
        msd(decathlon, classes=("a", "b")).scans()


def test_labels_with_channels(decathlon: Path) -> None:
    save_volume(decathlon / "labelsTr" / "scan_3.nii.gz", np.zeros((7, 6, 5, 2), np.uint8))
    with pytest.raises(DataError, match="2 channels; a label volume has one"):
        msd(decathlon, classes=("a", "b")).scans()


def test_channels_of_all_images_agree(decathlon: Path) -> None:
    save_volume(decathlon / "imagesTr" / "scan_3.nii.gz", np.zeros((7, 6, 5, 2), np.float32))
    with pytest.raises(DataError, match=r"scan_3.*2 channels, others have 1"):
        msd(decathlon, classes=("a", "b")).scans()


def test_multi_channel_images(decathlon: Path) -> None:
    for path in (decathlon / "imagesTr").iterdir():
        save_volume(path, np.random.default_rng(1).normal(size=(7, 6, 5, 4)).astype(np.float32))
    source = msd(decathlon, classes=("a", "b"))
    assert source.channels == 4
    assert source.read(source.scans()[0])[0].shape == (5, 4, 6, 7)


@pytest.mark.parametrize(("gone", "said"), [("labelsTr", "no label"), ("imagesTr", "no image")])
def test_an_image_without_its_label_and_the_other_way_round(decathlon: Path, gone: str, said: str) -> None:
    (decathlon / gone / "scan_1.nii.gz").unlink()
    with pytest.raises(DataError, match=f"scan_1.* has {said} of that name"):
        msd(decathlon, classes=("a", "b")).scans()


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagesTr is not a folder"):
        msd(tmp_path, classes=("a",)).scans()
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    with pytest.raises(DataError, match="holds no NIfTI files"):
        msd(tmp_path, classes=("a",)).scans()


def test_a_truncated_volume(decathlon: Path) -> None:
    path = decathlon / "imagesTr" / "scan_2.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"imagesTr/scan_2\.nii\.gz .*truncated"):
        read_all(msd(decathlon, classes=("a", "b")))


def test_files_that_archives_leave_behind_are_no_volumes(decathlon: Path) -> None:
    (decathlon / "imagesTr" / "._scan_0.nii.gz").write_bytes(b"\0")
    assert len(msd(decathlon, classes=("a", "b")).scans()) == 4


def test_cases_by_pattern(decathlon: Path) -> None:
    source = msd(decathlon, classes=("a", "b"), case_pattern="(.+)_[0-9]+")
    assert {scan.case for scan in source.scans()} == {"scan"}
    with pytest.raises(DataError, match=r"'scan_0' does not match"):
        msd(decathlon, classes=("a", "b"), case_pattern="patient(.+)").scans()


@pytest.mark.parametrize("pattern", ["(", "none", "(a)(b)"])
def test_a_pattern_has_one_group(decathlon: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="case_pattern"):
        msd(decathlon, classes=("a", "b"), case_pattern=pattern)


@pytest.mark.parametrize("classes", [(), ("a", "a"), ("a", " "), {"a": 0}, {"a": "1"}, {"a": ()}, {"a": True}])
def test_classes_that_cannot_be(decathlon: Path, classes: object) -> None:
    with pytest.raises(InputError):
        msd(decathlon, classes=classes)  # type: ignore[arg-type]


@pytest.mark.data
def test_the_real_hippocampus(real_data: Path) -> None:
    source = msd(real_data / "msd-hippocampus", classes=("anterior", "posterior"))
    scans = source.scans()
    assert len(scans) == 260
    assert {scan.spacing for scan in scans} == {(1.0, 1.0, 1.0)}
    voxels, inside = 0, np.zeros(2)
    for scan in scans:
        mask = source.read(scan)[1]
        voxels += mask.size
        inside += unpack(mask, 2).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(inside / voxels, [0.0273, 0.0252], atol=5e-5)
